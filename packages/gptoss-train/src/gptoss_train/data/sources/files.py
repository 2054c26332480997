"""The files that a config names, by path or by pattern, in an order that no file system decides."""

import glob
import hashlib
from collections.abc import Sequence
from pathlib import Path

from gptoss_weights import CheckpointError

__all__ = ["content_digest", "matching_files"]


def matching_files(patterns: Sequence[str]) -> list[Path]:
    """The files that paths and patterns (`*`, `?`, `[…]`, `**`) stand for: in their order, sorted in each, each once.

    Raises:
        CheckpointError: one stands for no file.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_file():
            matches = [path]
        elif path.is_dir():
            raise CheckpointError(
                "this is a folder", where=path, expected="files", fix=f"Say which of it, such as {path / '*.txt'}."
            )
        else:
            spelled = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
            matches = [match for match in map(Path, spelled) if match.is_file()]
        if not matches:
            raise CheckpointError("there is no such file", where=path, fix="Correct data.files.")
        found |= dict.fromkeys(matches)
    return list(found)


def content_digest(files: Sequence[Path]) -> str:
    """A digest of what the files hold, whatever they are called; they are read once."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
