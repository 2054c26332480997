"""The files that a config names, by path or by pattern, in an order that no file system decides."""

import glob
from collections.abc import Sequence
from pathlib import Path

from gptoss_weights import CheckpointError

__all__ = ["matching_files"]


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
