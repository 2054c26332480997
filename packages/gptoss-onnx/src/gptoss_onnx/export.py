"""export_onnx: a checkpoint becomes a folder with `model.onnx` in it, whole or not at all.

The graph is a few hundred kilobytes and the weights are the checkpoint's own files. Exported into
the checkpoint's folder (or one above it) nothing but the graph is written; anywhere else the weight
files are copied beside it, with config and tokenizer, so that the folder runs alone.
"""

import dataclasses
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import onnx
import onnx_ir as ir
from gptoss_weights import Checkpoint, CheckpointError
from gptoss_weights.durable_files import folder_beside, sync, sync_tree
from gptoss_weights.stop_tokens import eos_token_ids

from gptoss_onnx.graph import GraphBuilder, build_graph, graph_probes
from gptoss_onnx.initializers import ExternalParameters
from gptoss_onnx.metadata import MODEL_FILE, ModelMetadata, WeightFileMark
from gptoss_onnx.weight_files import WeightFiles, plan_weight_files

__all__ = ["ExportPlan", "export_onnx", "plan_export", "write_export"]


CONFIG_FILE = "config.json"
IR_VERSION = 10  # the one that came with opset 21
_PACKAGES = ("gptoss-onnx", "gptoss-weights", "onnx", "onnx-ir")

type Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What an export will do: the graph, and the files that must stand beside it.

    Attributes:
        output: The folder.
        graph: The graph, its weights referred to by file, offset and length.
        probes: Names of its outputs beside logits and cache.
        files: The weight files.
    """

    output: Path
    graph: ir.Graph
    probes: tuple[str, ...]
    files: WeightFiles

    @property
    def node_count(self) -> int:
        """Number of nodes, those of loop bodies included."""
        return sum(1 for _ in self.graph.all_nodes())


def plan_export(checkpoint: Checkpoint, output: Path | str, *, probes: Collection[str] = ()) -> ExportPlan:
    """Builds the graph and decides where each weight will stand; writes nothing.

    Raises:
        CheckpointError: the output is occupied, or the weights can neither stay nor be copied.
        ValueError: a probe is not known.
    """
    output = Path(output)
    files = plan_weight_files(checkpoint, output)
    _refuse_occupied(output, files)
    op = GraphBuilder()
    graph = build_graph(op, checkpoint.config, ExternalParameters(op, files), probes=probes)
    offered = graph_probes(checkpoint.config)
    return ExportPlan(output=output, graph=graph, probes=tuple(n for n in offered if n in probes), files=files)


def export_onnx(
    checkpoint: Checkpoint, output: Path | str, *, probes: Collection[str] = (), progress: Progress | None = None
) -> Path:
    """Exports a checkpoint as ONNX.

    Args:
        checkpoint: Any that `open_checkpoint` opens, or a view of one.
        output: A folder to make (it may exist if it is empty), or the checkpoint's own.
        probes: Names of `gptoss_weights.probes` that the graph shall have as outputs too.
        progress: Is told in a few words what has been done.

    Returns:
        The folder.

    Raises:
        CheckpointError: the output is occupied, or a weight file cannot be used.
        NotEnoughSpaceError: the disk will not hold the weights.
        ValueError: a probe is not known.
    """
    return write_export(plan_export(checkpoint, output, probes=probes), checkpoint, progress=progress)


def write_export(plan: ExportPlan, checkpoint: Checkpoint, *, progress: Progress | None = None) -> Path:
    """Does what `plan_export` has decided; see `export_onnx`."""
    report = progress or (lambda _: None)
    if plan.files.in_place:
        _write_graph(plan, checkpoint, plan.output, report)
    else:
        _write_folder(plan, checkpoint, report)
    return plan.output


def _refuse_occupied(output: Path, files: WeightFiles) -> None:
    if (output / MODEL_FILE).exists():
        raise CheckpointError(
            f"there is a {MODEL_FILE} already", where=output, fix="Remove it, or choose another OUTPUT."
        )
    if files.in_place and (files.copies or files.computed_header):
        raise CheckpointError(
            "a part of the weights stands in this folder and another part would have to be written into it",
            where=output,
            fix="Choose a folder apart from the checkpoint.",
        )
    if not files.in_place:
        if output.exists() and not (output.is_dir() and not any(output.iterdir())):
            raise CheckpointError("the output is not an empty folder", where=output, fix="Choose another OUTPUT.")
        if not output.absolute().parent.is_dir():
            raise CheckpointError("the folder to write into does not exist", where=output.absolute().parent)


def _write_folder(plan: ExportPlan, checkpoint: Checkpoint, report: Progress) -> None:
    """Writes everything into a folder beside the output, which then takes the output's name."""
    output = plan.output.absolute()
    staging = folder_beside(output)
    try:
        for path in plan.files.write(checkpoint, staging):
            report(f"wrote {path.name}")
        for name, source in checkpoint.side_files.items():
            shutil.copyfile(source, staging / name)
        config = checkpoint.config
        is_openai = bool(plan.files.copies) and checkpoint.format == "openai"
        document = config.to_openai() if is_openai else config.to_huggingface()
        (staging / CONFIG_FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        _write_graph(plan, checkpoint, staging, report)
        sync_tree(staging)
        staging.rename(output)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync(output.parent)


def _write_graph(plan: ExportPlan, checkpoint: Checkpoint, folder: Path, report: Progress) -> None:
    """Writes `model.onnx` beside its weights: under another name, checked, then renamed."""
    metadata = ModelMetadata(
        config=checkpoint.config,
        source_format=checkpoint.format,
        source_digest=checkpoint.digest(),
        eos_token_ids=eos_token_ids(checkpoint),
        probes=plan.probes,
        weight_files={path.as_posix(): WeightFileMark.of(folder / path) for path in plan.files.locations},
        versions={package: importlib.metadata.version(package) for package in _PACKAGES},
    )
    model = ir.Model(
        plan.graph,
        ir_version=IR_VERSION,
        producer_name="gptoss-onnx",
        producer_version=metadata.versions["gptoss-onnx"],
        metadata_props=metadata.to_properties(),
    )
    partial = folder / f".{MODEL_FILE}.partial"
    try:
        partial.write_bytes(ir.to_proto(model).SerializeToString())
        sync(partial)
        onnx.checker.check_model(partial, full_check=True)
        partial.rename(folder / MODEL_FILE)
    finally:
        partial.unlink(missing_ok=True)
    sync(folder)
    report(f"wrote {MODEL_FILE}")
