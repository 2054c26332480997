"""Fingerprints: whether two runs of a program look at the same tensors, told without reading them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from gptoss_weights.config import GptOssConfig

__all__ = ["fingerprint_of", "identity_of_files"]


def fingerprint_of(kind: str, config: GptOssConfig, *facts: object) -> str:
    """One text of everything that a checkpoint depends on; `repr` of each fact must be the same in every run."""
    sha = hashlib.sha256(repr((kind, config, config.document, facts)).encode())
    return f"{kind}:{sha.hexdigest()}"


def identity_of_files(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Absolute path, size in bytes and time of last change in nanoseconds of each file, sorted."""
    found = []
    for path in sorted({path.absolute() for path in paths}):
        status = path.stat()
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return found
