"""Where a checkpoint lies: a path of this machine, or a URL that TensorStore opens."""

import re
import urllib.parse
import urllib.request
from pathlib import Path

from gptoss_weights.errors import CheckpointError

__all__ = ["as_place", "is_url", "require_existing"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_THIS_MACHINE = ("", "localhost")


def is_url(path: Path | str) -> bool:
    """Whether this is a URL, such as `gs://bucket/folder`, rather than a path."""
    return isinstance(path, str) and _URL.match(path) is not None


def as_place(path: Path | str) -> Path | str:
    """The path, also where it was written as `file://…`; any other URL stays as it is."""
    if not is_url(path):
        return Path(path)
    parts = urllib.parse.urlsplit(str(path))
    if parts.scheme.lower() == "file" and parts.netloc.lower() in _THIS_MACHINE and parts.path:
        return Path(urllib.request.url2pathname(parts.path))
    return path


def require_existing(path: Path) -> None:
    """Refuses a path at which there is nothing.

    Raises:
        CheckpointError: there is nothing; what looks like a repository of the Hub gets the command that fetches it.
    """
    if path.exists():
        return
    is_repository = not path.parent.exists() and _REPOSITORY.fullmatch(path.as_posix())
    fix = f"If it is a repository of the Hugging Face Hub: gptoss-weights download {path.as_posix()}"
    raise CheckpointError("there is no such folder or file", where=path, fix=fix if is_repository else None)
