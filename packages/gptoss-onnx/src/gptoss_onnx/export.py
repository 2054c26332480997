"""export_onnx: a checkpoint becomes a folder with `model.onnx` in it, whole or not at all.

The graph is a few hundred kilobytes and the weights are the checkpoint's own files, or arrays
computed from them for a recipe that wants another form. Exported into the checkpoint's folder (or
one above it) nothing but the graph is written; anywhere else the weight files are copied or computed
beside it, with config and tokenizer, so that the folder runs alone, unless they are linked to.
"""

import dataclasses
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import onnx
from gptoss_weights import Checkpoint, CheckpointError
from gptoss_weights.durable_files import folder_beside, sync, sync_tree
from gptoss_weights.stop_tokens import eos_token_ids

from gptoss_onnx import ir
from gptoss_onnx.errors import OptionError
from gptoss_onnx.genai import GENAI_FILE, genai_config
from gptoss_onnx.graph import COMPONENT_TENSORS, GraphBuilder, build_component_graph, build_graph, graph_probes
from gptoss_onnx.initializers import ExternalParameters
from gptoss_onnx.metadata import MODEL_FILE, ModelMetadata, WeightFileMark
from gptoss_onnx.recipe import ComponentName, DenseForm, ExpertForm, Profile, Recipe, StaticShape, choose_recipe
from gptoss_onnx.source_digest import source_digest
from gptoss_onnx.weight_files import WeightFiles, plan_weight_files

__all__ = ["ExportPlan", "export_onnx", "plan_export", "write_export"]


CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
IR_VERSION = 10  # the one that came with opset 21
_PACKAGES = ("gptoss-onnx", "gptoss-weights", "onnx")

type Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What an export will do: the graph, and the files that must stand beside it.

    Attributes:
        output: The folder.
        recipe: In which operators and numbers.
        graph: The graph, its weights referred to by file, offset and length.
        probes: Names of its outputs beside logits and cache.
        files: The weight files.
        eos_token_ids: Ids that end a sequence.
    """

    output: Path
    recipe: Recipe
    graph: ir.Graph
    probes: tuple[str, ...]
    files: WeightFiles
    eos_token_ids: tuple[int, ...]

    @property
    def node_count(self) -> int:
        """Number of nodes, those of loop bodies included."""
        return sum(1 for _ in self.graph.all_nodes())


def plan_export(
    checkpoint: Checkpoint,
    output: Path | str,
    *,
    probes: Collection[str] = (),
    profile: Profile = "portable",
    experts: ExpertForm | None = None,
    dense: DenseForm | None = None,
    static: StaticShape | None = None,
    component: ComponentName | None = None,
    layer: int = 0,
    link_weights: bool = False,
) -> ExportPlan:
    """Builds the graph and decides where each weight will stand; writes nothing. The arguments are `export_onnx`'s.

    Raises:
        CheckpointError: the output is occupied, or the weights can neither stay nor be copied.
        OptionError: the options do not go together, or not with the checkpoint.
        ValueError: a probe is not known.
    """
    output = Path(output)
    recipe = choose_recipe(
        checkpoint,
        profile=profile,
        experts=experts,
        dense=dense,
        static=static,
        component=component,
        layer=layer,
    )
    if component is not None and probes:
        raise OptionError("a component has one output and no probes")
    files = plan_weight_files(checkpoint, output, recipe=recipe, link=link_weights, names=_needed(checkpoint, recipe))
    _refuse_occupied(output, files)
    op = GraphBuilder()
    parameters = ExternalParameters(op, files, checkpoint.specs)
    if component is None:
        graph = build_graph(op, checkpoint.config, parameters, probes=probes, recipe=recipe)
    else:
        graph = build_component_graph(op, checkpoint.config, parameters, component, layer=layer, recipe=recipe)
    ir.remove_unused(graph)
    offered = graph_probes(checkpoint.config)
    shown = tuple(n for n in offered if n in probes)
    return ExportPlan(
        output=output,
        recipe=recipe,
        graph=graph,
        probes=shown,
        files=files,
        eos_token_ids=eos_token_ids(checkpoint),
    )


def _needed(checkpoint: Checkpoint, recipe: Recipe) -> list[str] | None:
    """The tensors of a component; None for all."""
    if recipe.component is None:
        return None
    beginning = f"model.layers.{recipe.layer}.{COMPONENT_TENSORS[recipe.component]}"
    return [name for name in checkpoint if name.startswith(beginning)]


def export_onnx(
    checkpoint: Checkpoint,
    output: Path | str,
    *,
    probes: Collection[str] = (),
    profile: Profile = "portable",
    experts: ExpertForm | None = None,
    dense: DenseForm | None = None,
    static: StaticShape | None = None,
    component: ComponentName | None = None,
    layer: int = 0,
    link_weights: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Exports a checkpoint as ONNX.

    Args:
        checkpoint: Any that `open_checkpoint` opens, or a view of one.
        output: A folder to make (it may exist if it is empty), or the checkpoint's own.
        probes: Names of `gptoss_weights.probes` that the graph shall have as outputs too.
        profile: `portable` for every ONNX Runtime from 1.20 on, `fast` for its CPU, `cuda` for its GPUs.
        experts: Form of the expert matrices; by default the fastest exact one of the profile.
        dense: Form of the other matrices; the same.
        static: One shape for the graph to have, without a cache; by default any shape, with one.
        component: A part of one layer to export alone (`gptoss_onnx.graph.component`); by default everything.
        layer: The layer of the component.
        link_weights: Leave the weight files where they are, outside the output. Only `OnnxModel` finds them there.
        progress: Is told in a few words what has been done.

    Returns:
        The folder.

    Raises:
        CheckpointError: the output is occupied, or a weight file cannot be used.
        NotEnoughSpaceError: the disk will not hold the weights.
        OptionError: the options do not go together, or not with the checkpoint.
        ValueError: a probe is not known.
    """
    plan = plan_export(
        checkpoint,
        output,
        probes=probes,
        profile=profile,
        experts=experts,
        dense=dense,
        static=static,
        component=component,
        layer=layer,
        link_weights=link_weights,
    )
    return write_export(plan, checkpoint, progress=progress)


def write_export(plan: ExportPlan, checkpoint: Checkpoint, *, progress: Progress | None = None) -> Path:
    """Does what `plan_export` has decided; see `export_onnx`."""
    report = progress or (lambda _: None)
    if not plan.files.is_alone:
        _write_graph(plan, checkpoint, plan.output, report)
    else:
        _write_folder(plan, checkpoint, report)
    return plan.output


def _refuse_occupied(output: Path, files: WeightFiles) -> None:
    if (output / MODEL_FILE).exists():
        raise CheckpointError(
            f"there is a {MODEL_FILE} already", where=output, fix="Remove it, or choose another OUTPUT."
        )
    if not files.is_alone and (files.copies or files.computed_header):
        raise CheckpointError(
            "a part of the weights stands in this folder and another part would have to be written into it",
            where=output,
            fix="Choose a folder apart from the checkpoint.",
        )
    if files.is_alone:
        if output.exists() and not (output.is_dir() and not any(output.iterdir())):
            raise CheckpointError("the output is not an empty folder", where=output, fix="Choose another OUTPUT.")
        if not output.absolute().parent.is_dir():
            raise CheckpointError("the folder to write into does not exist", where=output.absolute().parent)


def _write_folder(plan: ExportPlan, checkpoint: Checkpoint, report: Progress) -> None:
    """Writes everything into a folder beside the output, which then takes the output's name."""
    output = plan.output.absolute()
    staging = folder_beside(output)
    try:
        for path in plan.files.write(staging):
            report(f"wrote {path.name}")
        if plan.recipe.component is None:
            _write_side_files(plan, checkpoint, staging)
        _write_graph(plan, checkpoint, staging, report)
        sync_tree(staging)
        staging.rename(output)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync(output.parent)


def _write_side_files(plan: ExportPlan, checkpoint: Checkpoint, folder: Path) -> None:
    """Config, tokenizer, what else the checkpoint has beside its weights, and what onnxruntime-genai wants."""
    for name, source in checkpoint.side_files.items():
        shutil.copyfile(source, folder / name)
    config = checkpoint.config
    is_openai = bool(plan.files.copies) and checkpoint.format == "openai"
    document = config.to_openai() if is_openai else config.to_huggingface()
    _write_json(folder / CONFIG_FILE, document)
    for_genai = None
    if plan.files.linked_folder is None:
        for_genai = genai_config(config, plan.recipe, eos_token_ids=plan.eos_token_ids)
    if for_genai is not None:
        _write_json(folder / GENAI_FILE, for_genai)
        if (folder / TOKENIZER_FILE).is_file() and not (folder / TOKENIZER_CONFIG_FILE).is_file():
            _write_json(folder / TOKENIZER_CONFIG_FILE, {"tokenizer_class": "PreTrainedTokenizerFast"})


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _write_graph(plan: ExportPlan, checkpoint: Checkpoint, folder: Path, report: Progress) -> None:
    """Writes `model.onnx` beside its weights: under another name, checked, then renamed."""
    linked = plan.files.linked_folder
    metadata = ModelMetadata(
        config=checkpoint.config,
        source_format=checkpoint.format,
        source_digest=source_digest(checkpoint),
        eos_token_ids=plan.eos_token_ids,
        probes=plan.probes,
        recipe=plan.recipe,
        weight_files={path.as_posix(): WeightFileMark.of((linked or folder) / path) for path in plan.files.locations},
        linked_folder=linked,
        versions={package: importlib.metadata.version(package) for package in _PACKAGES},
    )
    model = ir.model_proto(
        plan.graph,
        ir_version=IR_VERSION,
        producer=("gptoss-onnx", metadata.versions["gptoss-onnx"]),
        metadata=metadata.to_properties(),
    )
    partial = folder / f".{MODEL_FILE}.partial"
    try:
        partial.write_bytes(model.SerializeToString())
        sync(partial)
        _check(partial, linked)
        partial.rename(folder / MODEL_FILE)
    finally:
        partial.unlink(missing_ok=True)
    sync(folder)
    report(f"wrote {MODEL_FILE}")


def _check(path: Path, linked_folder: Path | None) -> None:
    """Holds the model against ONNX itself."""
    if linked_folder is None:
        onnx.checker.check_model(path, full_check=True)
        return
    # The checker wants weights beside the file; as inputs of the graph it takes them unseen.
    model = onnx.load_model(path, load_external_data=False)
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            model.graph.initializer.append(tensor)
    onnx.checker.check_model(model, full_check=True)
