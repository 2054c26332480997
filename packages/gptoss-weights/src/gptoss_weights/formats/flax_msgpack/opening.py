"""Opens a bundle: the tree is indexed and every leaf held against the schema of the config beside it."""

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.config import GptOssConfig
from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.flax_msgpack.checkpoint import FlaxCheckpoint
from gptoss_weights.formats.flax_msgpack.index import IndexedArray, index_arrays
from gptoss_weights.formats.flax_msgpack.tree import (
    LAYER_PREFIX,
    FlaxLeaf,
    TreePath,
    flax_config_path,
    flax_leaves,
    shown_path,
)
from gptoss_weights.formats.folder import side_files
from gptoss_weights.formats.orientation import refuse_transposed_squares
from gptoss_weights.formats.problems import gathered_problems

__all__ = ["open_flax"]

_DTYPES = (np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32))
_OTHER_CONFIG = "Is this the config of these weights?"
_PARAMS = "params"  # a variable collection of Flax; jax2onnx takes a tree with or without it


def open_flax(path: Path, *, config: Path | None) -> Checkpoint:
    """Opens a bundle; reads its config and the structure of its tree, no weights.

    Args:
        path: The `.msgpack` file, or a folder that holds one.
        config: A config in either dialect that stands elsewhere than at `<stem>.config.json` or
            `<stem>.msgpack.config.json`.

    Raises:
        CheckpointError: anything that is not as the config and the schema say, all of it at once.
    """
    file = _only_msgpack(path) if path.is_dir() else path
    arrays = index_arrays(file)
    if {at[0] for at in arrays} == {_PARAMS}:
        arrays = {at[1:]: array for at, array in arrays.items() if len(at) > 1}
    geometry = _read_config(file) if config is None else GptOssConfig.read(config)
    _check_layers(file, geometry, arrays)
    leaves = flax_leaves(geometry)
    problems = _mismatches(file, leaves, arrays)
    if problems:
        raise gathered_problems(file, problems, fix=_OTHER_CONFIG)
    checkpoint = FlaxCheckpoint(
        config=geometry, side_files=side_files(file.parent), path=file, leaves=leaves, arrays=arrays
    )
    refuse_transposed_squares(file, checkpoint, inputs_first=False)
    return checkpoint


def _only_msgpack(folder: Path) -> Path:
    names = sorted(path.name for path in folder.glob("*.msgpack"))
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise CheckpointError(
            "the folder holds not one *.msgpack file", where=folder, found=found, fix="Name the file."
        )
    return folder / names[0]


def _read_config(file: Path) -> GptOssConfig:
    """The config beside a bundle, where either of jax2onnx's tools looks for it."""
    paths = [flax_config_path(file), file.with_name(f"{file.name}.config.json")]
    configs = [GptOssConfig.read(path) for path in paths if path.exists()]
    if not configs:
        expected = " or ".join(path.name for path in paths)
        fix = "Give its place with --config."
        raise CheckpointError("the bundle has no config beside it", where=file, expected=expected, fix=fix)
    if len(configs) == 2 and configs[0] != configs[1]:
        raise CheckpointError(
            f"{paths[0].name} and {paths[1].name} disagree", where=file, fix="Choose one of them with --config."
        )
    return configs[0]


def _check_layers(file: Path, config: GptOssConfig, arrays: Mapping[TreePath, IndexedArray]) -> None:
    """Says the plainest thing about the config of another model, before hundreds of leaves are missing."""
    found = sum(key.startswith(LAYER_PREFIX) for key in {at[0] for at in arrays})
    if found != config.num_hidden_layers:
        raise CheckpointError(
            "the tree has not as many layers as the config says",
            where=file,
            expected=f"{config.num_hidden_layers} ({LAYER_PREFIX}0, …)",
            found=found,
            fix=_OTHER_CONFIG,
        )


def _mismatches(file: Path, leaves: Mapping[TreePath, FlaxLeaf], arrays: Mapping[TreePath, IndexedArray]) -> list[str]:
    problems = []
    for at, leaf in leaves.items():
        name = shown_path(at)
        array = arrays.get(at)
        if array is None:
            problems.append(f"{file}: {name} is missing, expected {_list(leaf.shape)}")
        elif array.shape != leaf.shape:
            problems.append(
                f"{file}: {name} has the wrong shape, expected {_list(leaf.shape)}, found {_list(array.shape)}"
            )
        elif array.dtype not in _DTYPES:
            problems.append(f"{file}: {name} has the wrong dtype, expected bfloat16 or float32, found {array.dtype}")
    strangers = [at for at in arrays if at not in leaves]
    return problems + [f"{file}: {shown_path(at)} is no tensor of this geometry" for at in strangers]


def _list(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
