"""The manifest as a file: JSON, the same bytes for the same artefact, and with a checksum of its own.

No times, no absolute paths: converting again gives the same manifest. `manifest_blake3` covers
everything else in it, so that a damaged manifest is not taken for a damaged checkpoint.
"""

import bisect
import dataclasses
import itertools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Self

from blake3 import blake3

from gptoss_weights.durable_files import write_durably
from gptoss_weights.errors import CheckpointError
from gptoss_weights.file_hashing import FileRange
from gptoss_weights.json_files import load_json_object, parse_json_object
from gptoss_weights.wording import shown

__all__ = ["FileEntry", "Manifest", "TensorEntry", "parse_manifest", "read_manifest"]

VERSION = 2
_VERSION_KEY, _SELF_KEY = "manifest_version", "manifest_blake3"
_LONGEST_NAME = 255  # bytes, in every file system of POSIX
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileEntry:
    """What a file was.

    Attributes:
        nbytes: Its size.
        parts: Offset → BLAKE3 of the bytes from there to the next offset, or to the end; from 0 on.
    """

    nbytes: int
    parts: Mapping[int, str]

    def ranges(self, path: Path) -> list[FileRange]:
        """The parts, of the file where it is now."""
        starts = [*self.parts, self.nbytes]
        return [FileRange(path, start, stop) for start, stop in itertools.pairwise(starts)]

    def checksum_of(self, start: int, stop: int) -> str | None:
        """BLAKE3 of the bytes start … stop − 1, or None if they are not a part."""
        ends = [*self.parts, self.nbytes]
        position = bisect.bisect_left(ends, start)
        return self.parts[start] if ends[position : position + 2] == [start, stop] else None

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON document: one checksum if the file is one part, which then is `b3sum`'s."""
        parts = (
            self.parts[0] if len(self.parts) == 1 else {str(start): checksum for start, checksum in self.parts.items()}
        )
        return {"bytes": self.nbytes, "blake3": parts}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is none of that.
        """
        nbytes, parts = int(document["bytes"]), document["blake3"]
        parts = {"0": parts} if isinstance(parts, str) else parts
        starts = [int(start) for start in parts]
        if starts[:1] != [0] or starts != sorted(set(starts)) or starts[-1] > nbytes:
            raise ValueError(f"parts that begin at {starts} do not make a file of {nbytes} bytes")
        return cls(nbytes=nbytes, parts=dict(zip(starts, map(_hex, parts.values()), strict=True)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """What a canonical tensor was.

    Attributes:
        dtype: As NumPy calls it, or "MXFP4" where it is packed.
        shape: Canonical shape.
        checksums: "values" → BLAKE3 of the values in C order, little endian; of a packed tensor "blocks"
            and "scales".
        files: Where it stands: paths of files, and of folders (ending with a slash), of the artefact.
    """

    dtype: str
    shape: tuple[int, ...]
    checksums: Mapping[str, str]
    files: tuple[str, ...]

    def stands_in(self, file: str) -> bool:
        """Whether a file of the artefact may hold some of it."""
        return any(file == place or (place.endswith("/") and file.startswith(place)) for place in self.files)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an artefact was when the manifest was written.

    Attributes:
        writer: Package → its version.
        format: `Checkpoint.format`.
        config: The numbers of the geometry.
        files: Path from the folder of the manifest, with slashes → what the file was.
        tensors: Canonical name → what the tensor was.
    """

    writer: Mapping[str, str]
    format: str
    config: Mapping[str, float]
    files: Mapping[str, FileEntry]
    tensors: Mapping[str, TensorEntry]

    def to_text(self) -> str:
        """The content of the file."""
        body = self._body()
        return json.dumps({**body, _SELF_KEY: _checksum(body)}, indent=1) + "\n"

    def write(self, path: Path) -> None:
        """Writes the file, synced to disk; it appears whole, in place of an earlier one."""
        write_durably(path, self.to_text().encode())

    def _body(self) -> dict[str, Any]:
        return {
            _VERSION_KEY: VERSION,
            "writer": dict(self.writer),
            "format": self.format,
            "config": dict(self.config),
            "files": {path: entry.to_json() for path, entry in sorted(self.files.items())},
            "tensors": {
                name: {
                    "dtype": entry.dtype,
                    "shape": list(entry.shape),
                    "blake3": dict(entry.checksums),
                    "files": list(entry.files),
                }
                for name, entry in self.tensors.items()
            },
        }


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest.

    Raises:
        CheckpointError: it is not there, damaged, edited, or of a version that is not known here.
    """
    return _checked(load_json_object(path, what="the manifest"), path)


def parse_manifest(content: bytes, *, where: str) -> Manifest:
    """The manifest in a file's content; `where` that was.

    Raises:
        CheckpointError: as `read_manifest`.
    """
    return _checked(parse_json_object(content, what="the manifest", where=where), where)


def _checked(document: dict[str, Any], path: Path | str) -> Manifest:
    version = document.get(_VERSION_KEY)
    if type(version) is int and version > VERSION:
        raise CheckpointError(
            "the manifest is of a later version",
            where=path,
            expected=VERSION,
            found=version,
            fix="Install a later gptoss-weights.",
        )
    if type(version) is int and 0 < version < VERSION:
        raise CheckpointError(
            "the manifest is of an earlier version, whose checksums are not read any more",
            where=path,
            expected=VERSION,
            found=version,
            fix="If you trust the checkpoint, remove it and write another with --write-manifest.",
        )
    checksum = document.pop(_SELF_KEY, None)
    if version != VERSION or checksum != _checksum(document):
        raise CheckpointError(
            "the manifest itself is damaged, was edited, or is none of ours: its own checksum does not fit it",
            where=path,
            fix="Restore it; or, if you trust the checkpoint, remove it and write another with --write-manifest.",
        )
    try:
        return _parse(document)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"the manifest is not as this version writes it ({error!r})", where=path) from None


def _parse(document: Mapping[str, Any]) -> Manifest:
    files = {_safe(path): FileEntry.from_json(entry) for path, entry in document["files"].items()}
    tensors = {
        name: TensorEntry(
            dtype=str(entry["dtype"]),
            shape=tuple(int(extent) for extent in entry["shape"]),
            checksums={part: _hex(digest) for part, digest in entry["blake3"].items()},
            files=tuple(_safe(path) for path in entry["files"]),
        )
        for name, entry in document["tensors"].items()
    }
    return Manifest(
        writer=dict(document["writer"]),
        format=str(document["format"]),
        config=dict(document["config"]),
        files=files,
        tensors=tensors,
    )


def _safe(path: str) -> str:
    """The path, once it is known not to lead out of the folder."""
    if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\0" in path:
        raise ValueError(f"{shown(path)} lies outside the folder")
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.split("/")):
        raise ValueError(f"{shown(path)} is no name of a file")
    return path


def _hex(digest: str) -> str:
    if not _HEX.fullmatch(digest):
        raise ValueError(f"{shown(digest)} is no BLAKE3")
    return digest


def _checksum(body: Mapping[str, Any]) -> str:
    return blake3(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
