"""save_checkpoint: streams a checkpoint into a folder that appears whole or not at all.

Everything is written to a temporary folder beside the target, synced, and renamed. Memory holds one
tensor at a time; a stored one is not even copied.
"""

import os
import secrets
import shutil
from pathlib import Path
from typing import Literal

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.errors import CheckpointError, NotEnoughSpaceError
from gptoss_weights.formats.registry import layout_named
from gptoss_weights.formats.safetensors_writer import plan_file_sizes, write_safetensors_folder

__all__ = ["save_checkpoint"]


def save_checkpoint(
    checkpoint: Checkpoint,
    path: Path | str,
    *,
    format: Literal["openai", "hf"] = "openai",  # noqa: A002 - as the attribute of Checkpoint
    max_shard_bytes: int | None = None,
) -> None:
    """Writes a checkpoint in a published layout: weights, index, config, and the files that travel along.

    Args:
        checkpoint: What to write; its experts must be packed as MXFP4.
        path: The folder to make. It may exist if it is empty.
        format: "openai" (`original/`) or "hf".
        max_shard_bytes: Most tensor bytes in one file; by default as published.

    Raises:
        CheckpointError: the target is there already, or its parent is not.
        NotEnoughSpaceError: the disk cannot hold it.
        ValueError: no such format, or a tensor is not as the format stores it.
    """
    layout = layout_named(format)
    target = Path(path).absolute() if Path(path).name == "" else Path(path)  # "." has no name to rename to
    _refuse_occupied(target)
    sizes = plan_file_sizes(checkpoint.config, layout, max_shard_bytes=max_shard_bytes)
    _check_space(target, sum(sizes.values()))
    staging = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    staging.mkdir()
    try:
        for name, source in checkpoint.side_files.items():
            shutil.copyfile(source, staging / name)
        write_safetensors_folder(checkpoint, layout, staging, max_shard_bytes=max_shard_bytes)
        _sync_folder(staging)
        _move_into_place(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _sync_folder(target.parent)


def _refuse_occupied(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise CheckpointError("the target is not empty", where=target, fix="Choose another, or remove it first.")
    if not target.parent.is_dir():
        raise CheckpointError("the folder to write into does not exist", where=target.parent)


def _check_space(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise NotEnoughSpaceError(
            "the disk cannot hold the checkpoint", where=target, expected=f"{needed} bytes free", found=f"{free} bytes"
        )


def _move_into_place(staging: Path, target: Path) -> None:
    try:
        staging.rename(target)  # atomic; over an empty folder too
    except OSError as error:
        if target.exists():
            raise CheckpointError("the target appeared while it was being written", where=target) from error
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
