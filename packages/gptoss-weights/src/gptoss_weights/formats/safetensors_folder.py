"""Opens a folder of safetensors files in any of their layouts, held against the schema."""

from collections.abc import Mapping
from pathlib import Path

from gptoss_weights.checkpoint import Checkpoint, StoredArray
from gptoss_weights.config import GptOssConfig
from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.folder import FolderContents, inside, read_folder, side_files
from gptoss_weights.formats.layouts import HUGGINGFACE, HUGGINGFACE_PLAIN, OPENAI, Layout
from gptoss_weights.formats.orientation import (
    refuse_leftover_quantization,
    refuse_transposed_squares,
    untransposed_experts,
)
from gptoss_weights.formats.problems import gathered_problems
from gptoss_weights.formats.raw_tensors import RawTensor, locate
from gptoss_weights.formats.safetensors_files import DTYPES
from gptoss_weights.stored_checkpoint import StoredCheckpoint
from gptoss_weights.wording import shown_name

__all__ = ["open_safetensors_folder"]

_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ABSENT = " is missing, expected "
_PLAIN_EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")


def open_safetensors_folder(folder: Path, *, config: Path | None) -> Checkpoint:
    """Opens a folder; reads the config and the headers of its files.

    Raises:
        CheckpointError: anything that is not as the config and the schema say, all of it at once.
    """
    contents = read_folder(folder)
    geometry = GptOssConfig.read(config or inside(folder, "config.json"))
    problems = list(contents.problems)
    layout = _layout_of(folder, contents) if contents.tensors else None
    if layout is HUGGINGFACE_PLAIN:
        refuse_leftover_quantization(config or folder / "config.json", geometry)
    if layout is not None and not problems:
        problems += untransposed_experts(folder, layout, geometry, contents.tensors)
        problems = problems or _mismatches(folder, layout, geometry, contents.tensors)
        if any(_ABSENT in problem for problem in problems):
            problems = [f"{shard}: the shard is missing" for shard in contents.perhaps_missing] + problems
    if problems or layout is None:
        raise gathered_problems(folder, problems, fix=contents.fix or _next_step(problems))
    raw_tensors = layout.tensors(geometry)
    checkpoint = StoredCheckpoint(
        config=geometry,
        format=layout.name,
        side_files=side_files(folder),
        tensors=locate(raw_tensors, contents.tensors),
        transposed={part.spec.name for raw in raw_tensors for part in raw.parts if part.is_transposed},
    )
    if layout is HUGGINGFACE_PLAIN:
        refuse_transposed_squares(folder, checkpoint, inputs_first=True)
    return checkpoint


def _layout_of(folder: Path, contents: FolderContents) -> Layout:
    names = contents.tensors
    if any(name.endswith(_PLAIN_EXPERTS) for name in names):
        return HUGGINGFACE_PLAIN
    for layout in (HUGGINGFACE, OPENAI):
        if any(layout.owns(name) for name in names):
            return layout
    raise CheckpointError(
        "the tensors are named as in no layout that is known here",
        where=folder,
        expected="model.layers.… (Hugging Face) or block.… (OpenAI's original/)",
        found=", ".join(shown_name(name) for name in sorted(names)[:3]),
    )


def _mismatches(folder: Path, layout: Layout, config: GptOssConfig, found: Mapping[str, StoredArray]) -> list[str]:
    problems = []
    names = set()
    for raw in layout.tensors(config):
        names.add(raw.name)
        stored = found.get(raw.name)
        if stored is None:
            problems.append(f"{folder}: {raw.name}{_ABSENT}{_form(raw)}")
            continue
        dtypes = layout.array_dtypes if raw.parts[0].half == "array" else (raw.dtype,)
        if stored.shape != raw.shape or stored.dtype not in dtypes:
            what = "shape" if stored.shape != raw.shape else "dtype"
            problems.append(
                f"{stored.path}: {raw.name} has the wrong {what}, expected {_form(raw)}, found {_form(stored)}"
            )
    problems += [
        f"{stored.path}: {shown_name(name)} is no tensor of this geometry"
        for name, stored in found.items()
        if name not in names
    ]
    return problems


def _form(tensor: RawTensor | StoredArray) -> str:
    return f"{_DTYPE_NAMES[tensor.dtype]} [{', '.join(map(str, tensor.shape))}]"


def _next_step(problems: list[str]) -> str:
    if any(" are not transposed, " in problem for problem in problems):
        return "Save the checkpoint again with transformers, or convert it again from the packed one."
    if any(" has the wrong shape" in problem or " is no tensor " in problem for problem in problems):
        return "Is this the config of these weights?"
    if any(_ABSENT in problem for problem in problems):
        return "Is a shard missing, or is this the config of another model?"
    return "Fetch what is missing or damaged again."
