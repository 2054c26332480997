"""What often lies under a weight file's name, told by its first bytes, and said in words."""

import codecs
from pathlib import Path
from typing import NoReturn

from gptoss_weights.errors import CheckpointError

__all__ = ["LOOKED_AT_BYTES", "refuse_impostors", "refuse_stray_file"]

LOOKED_AT_BYTES = 64

# First bytes (lower-cased) → what the file is, next step.
_IMPOSTORS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "the file is a Git-LFS pointer",
        "Fetch the file with `git lfs pull`, or download the file again.",
    ),
    (b"<!doctype html", "the file is an HTML page", "Download it again; a login may be needed."),
    (b"<html", "the file is an HTML page", "Download it again; a login may be needed."),
    (b"<?xml", "the file is an XML page", "Download it again; a login may be needed."),
)
_ZIP = b"PK\x03\x04"
_PICKLE_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_SAFETENSORS_OPENING = slice(8, 9), b"{"  # the length before it may be 640 bytes, \x80\x02, and so on


def refuse_impostors(path: Path, start: bytes, *, what: str = "the weights", wanted: str) -> None:
    """Refuses a file that is empty, a pointer, a web page or a pickle.

    Args:
        path: The file, for the error.
        start: Its first `LOOKED_AT_BYTES` bytes.
        what: What it should hold.
        wanted: What the user should give instead of a pickle.

    Raises:
        CheckpointError: it is one of these.
    """
    if not start:
        raise CheckpointError("the file is empty", where=path, fix="Download it again.")
    lowered = start.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for prefix, found, fix in _IMPOSTORS:
        if lowered.startswith(prefix):
            raise CheckpointError(f"{found}, not {what}", where=path, fix=fix)
    if start.startswith(_ZIP):
        raise CheckpointError(
            "the file is a zip or pickle archive, which is never opened", where=path, fix=f"Give {wanted}."
        )
    place, brace = _SAFETENSORS_OPENING
    if start.startswith(_PICKLE_PROTOCOLS) and start[place] != brace:
        raise CheckpointError("the file is a pickle, which is never opened", where=path, fix=f"Give {wanted}.")


def refuse_stray_file(path: Path) -> NoReturn:
    """Refuses a file that was given as the checkpoint and is no bundle.

    Raises:
        CheckpointError: always; a pickle is called by its name.
    """
    wanted = "the folder of its safetensors files, or a .msgpack file"
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            refuse_impostors(path, file.read(LOOKED_AT_BYTES), wanted=wanted)
    raise CheckpointError(
        "a checkpoint is a folder or a .msgpack file, but this is neither",
        where=path,
        fix="Give the folder that it is in.",
    )
