"""Opens a folder of safetensors files in either published layout, held against the schema."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from gptoss_weights.checkpoint import Checkpoint, StoredArray
from gptoss_weights.config import GptOssConfig
from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.folder import FolderContents, read_folder, side_files
from gptoss_weights.formats.layouts import HUGGINGFACE, OPENAI, Layout
from gptoss_weights.formats.problems import gathered_problems
from gptoss_weights.formats.raw_tensors import RawTensor, locate
from gptoss_weights.formats.safetensors_files import DTYPES
from gptoss_weights.stored_checkpoint import StoredCheckpoint

__all__ = ["open_safetensors_folder"]

_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_BF16_EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")


def open_safetensors_folder(folder: Path, *, config: Path | None) -> Checkpoint:
    """Opens a folder; reads the config and the headers of its files.

    Raises:
        CheckpointError: anything that is not as the config and the schema say, all of it at once.
    """
    contents = read_folder(folder)
    geometry = GptOssConfig.read(config or folder / "config.json")
    problems = list(contents.problems)
    layout = _layout_of(folder, contents) if contents.tensors else None
    if layout is not None and not problems:
        problems += _mismatches(folder, layout.tensors(geometry), contents.tensors)
    if problems or layout is None:
        raise gathered_problems(folder, problems)
    return StoredCheckpoint(
        config=geometry,
        format=layout.name,
        side_files=side_files(folder),
        tensors=locate(layout.tensors(geometry), contents.tensors),
    )


def _layout_of(folder: Path, contents: FolderContents) -> Layout:
    names = contents.tensors
    if any(name.endswith(_BF16_EXPERTS) for name in names):
        raise CheckpointError(
            "the experts are plain matrices, not MXFP4",
            where=folder,
            expected="gate_up_proj_blocks and gate_up_proj_scales",
            found="gate_up_proj",
            fix="This version reads only checkpoints whose experts are packed as published.",
        )
    for layout in (HUGGINGFACE, OPENAI):
        if any(layout.owns(name) for name in names):
            return layout
    raise CheckpointError(
        "the tensors are named as in no layout that is known here",
        where=folder,
        expected="model.layers.… (Hugging Face) or block.… (OpenAI's original/)",
        found=", ".join(sorted(names)[:3]),
    )


def _mismatches(folder: Path, expected: Iterable[RawTensor], found: Mapping[str, StoredArray]) -> list[str]:
    problems = []
    names = set()
    for raw in expected:
        names.add(raw.name)
        stored = found.get(raw.name)
        if stored is None:
            problems.append(f"{folder}: {raw.name} is missing, expected {_form(raw)}")
        elif (stored.shape, stored.dtype) != (raw.shape, raw.dtype):
            what = "shape" if stored.shape != raw.shape else "dtype"
            problems.append(
                f"{stored.path}: {raw.name} has the wrong {what}, expected {_form(raw)}, found {_form(stored)}"
            )
    problems += [
        f"{stored.path}: {name} is no tensor of this geometry" for name, stored in found.items() if name not in names
    ]
    return problems


def _form(tensor: RawTensor | StoredArray) -> str:
    return f"{_DTYPE_NAMES[tensor.dtype]} [{', '.join(map(str, tensor.shape))}]"
