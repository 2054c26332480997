"""The weight files that a graph reads: in place inside its folder, elsewhere, copied into it, or computed for it.

ONNX keeps large tensors outside the graph as (file, offset, length), and a safetensors file is just
that behind its header. So a checkpoint's own files serve unchanged. What is stored nowhere (a
random checkpoint, a transformed one, another form of a matrix) is streamed into one more safetensors
file, in slices, so that memory stays bounded. ONNX wants locations relative to the graph and inside
its folder; linked weights are relative to a folder that only our own runtime looks up.
"""

import dataclasses
import errno
import json
import os
import shutil
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gptoss_weights import Checkpoint, CheckpointError, Mxfp4Tensor, NotEnoughSpaceError, StoredArray, StoredMxfp4

from gptoss_onnx.forms import ComputedArrays, computed_arrays
from gptoss_onnx.recipe import Recipe

__all__ = ["COMPUTED_FILE", "WeightFiles", "plan_weight_files"]

COMPUTED_FILE = "weights.safetensors"
WORTH_COPYING = 0.9  # of a file: then it is copied as it is
_HEADER_ALIGNMENT = 8  # of the first tensor, as the safetensors library does it
_SAFETENSORS_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "uint8": "U8"}

_CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)

type Tensors = Mapping[str, StoredArray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightFiles:
    """Where every tensor of a graph will stand.

    Attributes:
        tensors: Raw tensor name → its bytes, `path` relative to the output folder. Packed experts
            are two: `…_blocks` and `…_scales`.
        in_place: Relative paths of files that stand in the output folder already.
        copies: Relative path → file to copy from.
        computed_header: The header of `weights.safetensors`, empty where nothing is computed.
        computed: What stands in that file.
        linked_folder: The folder that `in_place` paths are relative to, where it is not the output.
    """

    tensors: Tensors
    in_place: tuple[Path, ...]
    copies: Mapping[Path, Path]
    computed_header: bytes
    computed: tuple[ComputedArrays, ...] = ()
    linked_folder: Path | None = None

    @property
    def computed_bytes(self) -> int:
        """Size of `weights.safetensors`, 0 without."""
        ends = [t.offset + t.nbytes for t in self.tensors.values() if t.path == Path(COMPUTED_FILE)]
        return max(ends, default=0) if self.computed_header else 0

    @property
    def is_alone(self) -> bool:
        """Whether the output is a folder of its own, that is made for the export."""
        return not self.in_place or self.linked_folder is not None

    @property
    def bytes_to_write(self) -> int:
        """Size of all files that will be copied or computed."""
        return sum(source.stat().st_size for source in self.copies.values()) + self.computed_bytes

    @property
    def locations(self) -> tuple[Path, ...]:
        """Relative paths of all weight files."""
        return (*self.in_place, *self.copies, *([Path(COMPUTED_FILE)] if self.computed_header else []))

    def write(self, folder: Path) -> Iterator[Path]:
        """Writes what has to be written into `folder`; yields each path when it is done.

        Raises:
            NotEnoughSpaceError: the disk will not hold it; nothing is written then.
        """
        free = shutil.disk_usage(folder).free
        if self.bytes_to_write > free:
            raise NotEnoughSpaceError(
                "the disk will not hold the weights",
                where=folder,
                expected=f"{self.bytes_to_write:,} bytes",
                found=f"{free:,} bytes free",
                fix="Export into the checkpoint's own folder, where nothing is copied, or free some space.",
            )
        for location, source in self.copies.items():
            shutil.copyfile(source, folder / location)
            yield folder / location
        if self.computed_header:
            path = folder / COMPUTED_FILE
            with path.open("wb") as file:
                _reserve(file, self.computed_bytes)
                file.write(self.computed_header)
                for arrays in self.computed:
                    _stream(arrays, self.tensors, file)
            yield path


def plan_weight_files(
    checkpoint: Checkpoint,
    output: Path,
    *,
    recipe: Recipe | None = None,
    link: bool = False,
    names: Collection[str] | None = None,
) -> WeightFiles:
    """Decides for every tensor where it will stand, for a graph in the folder `output`.

    Args:
        checkpoint: Any.
        output: The folder.
        recipe: In which forms; by default as they are.
        link: Whether to leave files outside the output where they are, instead of copying them.
        names: The tensors that the graph needs, if not all. Of a file that has to be copied only those are written,
            unless they are nearly all of it.

    Raises:
        CheckpointError: a file in place is a symbolic or hard link, which ONNX readers refuse, or
            files cannot be linked to.
    """
    output = output.resolve()
    wanted = list(checkpoint if names is None else names)
    computed, unchanged = computed_arrays(checkpoint, recipe or Recipe(), wanted)
    stored: dict[str, StoredArray] = {}
    kept = [name for name in wanted if name in unchanged]
    whole = _files_worth_copying(checkpoint, kept)
    for name in kept:
        parts = _stored_parts(checkpoint, name)
        is_copied = not link and not _all_inside(checkpoint.places(name), output)
        if not parts or (is_copied and not whole.issuperset(part.path for part in parts.values())):
            computed.append(_canonical(checkpoint, name))
        else:
            stored |= parts
    paths = tuple(dict.fromkeys(tensor.path for tensor in stored.values()))
    header, placed = _computed_file(computed)
    linked_folder = _linked_folder(paths, output, is_computed=bool(computed)) if link else None
    in_place, copies, locations = _locations(paths, linked_folder or output)
    tensors = {name: dataclasses.replace(tensor, path=locations[tensor.path]) for name, tensor in stored.items()}
    return WeightFiles(
        tensors=tensors | placed,
        in_place=in_place,
        copies=copies,
        computed_header=header,
        computed=tuple(computed),
        linked_folder=linked_folder,
    )


def _stored_parts(checkpoint: Checkpoint, name: str) -> dict[str, StoredArray]:
    """The arrays that a tensor stands in, packed experts two; none where it stands in no file."""
    place = checkpoint.stored(name)
    if isinstance(place, StoredMxfp4):
        return {f"{name}_blocks": place.blocks, f"{name}_scales": place.scales}
    return {} if place is None else {name: place}


def _files_worth_copying(checkpoint: Checkpoint, names: Collection[str]) -> set[Path]:
    """Files of which the graph needs nearly all; of others the tensors that it needs are written one by one."""
    needed: dict[Path, int] = {}
    for name in names:
        for part in _stored_parts(checkpoint, name).values():
            needed[part.path] = needed.get(part.path, 0) + part.nbytes
    return {path for path, count in needed.items() if count >= WORTH_COPYING * path.stat().st_size}


def _locations(paths: tuple[Path, ...], folder: Path) -> tuple[tuple[Path, ...], dict[Path, Path], dict[Path, Path]]:
    """Files in place, copies (location → source), and every file's location (path → location)."""
    in_place: list[Path] = []
    copies: dict[Path, Path] = {}
    locations: dict[Path, Path] = {}
    for path in paths:
        absolute = _absolute(path)
        if absolute.is_relative_to(folder):
            if path.is_symlink() or path.stat().st_nlink > 1:
                raise CheckpointError(
                    "the weight file is a link to another, which ONNX readers refuse",
                    where=path,
                    fix="Export into another folder, where the weights are copied.",
                )
            locations[path] = absolute.relative_to(folder)
            in_place.append(locations[path])
        else:
            locations[path] = _free_name(path.name, taken=copies)
            copies[locations[path]] = path
    return tuple(in_place), copies, locations


def _linked_folder(paths: tuple[Path, ...], output: Path, *, is_computed: bool) -> Path | None:
    """The folder that all weight files stand in; None where that is the output, or above it nothing is needed.

    Raises:
        CheckpointError: some weights stand in no file, or the files have no folder in common.
    """
    if is_computed or not paths:
        raise CheckpointError(
            "weights cannot be linked to where some of them have to be computed",
            where=output,
            fix="Leave out --link-weights, or export the checkpoint as it is, with profile portable.",
        )
    folders = {_absolute(path).parent for path in paths}
    if len(folders) > 1:
        raise CheckpointError(
            "weights can be linked to in one folder only", where=output, found=", ".join(map(str, sorted(folders)))
        )
    [folder] = folders
    return None if folder.is_relative_to(output) else folder


def _all_inside(places: tuple[Path | str, ...], output: Path) -> bool:
    return all(isinstance(place, Path) and _absolute(place).is_relative_to(output) for place in places)


def _absolute(path: Path) -> Path:
    """The path with its folder resolved, but not the file itself, which may be a link."""
    return Path.absolute(path.parent.resolve() / path.name)


def _free_name(name: str, *, taken: Mapping[Path, Path]) -> Path:
    """The name itself, or a numbered one if another file (or the computed one) has it."""
    candidate, number = Path(name), 1
    while candidate in taken or candidate == Path(COMPUTED_FILE):
        number += 1
        candidate = Path(f"{number}-{name}")
    return candidate


def _canonical(checkpoint: Checkpoint, name: str) -> ComputedArrays:
    """A tensor that is stored nowhere, in the form that it is read in."""
    shape = checkpoint.specs[name].shape
    sample = checkpoint.read(name, (slice(0, 1),))
    arrays = (
        {f"{name}_blocks": sample.blocks, f"{name}_scales": sample.scales}
        if isinstance(sample, Mxfp4Tensor)
        else {name: sample}
    )

    def rows(start: int, stop: int) -> tuple[np.ndarray, ...]:
        piece = checkpoint.read(name, (slice(start, stop),))
        return (piece.blocks, piece.scales) if isinstance(piece, Mxfp4Tensor) else (piece,)

    return ComputedArrays({part: (array.dtype, (shape[0], *array.shape[1:])) for part, array in arrays.items()}, rows)


def _computed_file(computed: list[ComputedArrays]) -> tuple[bytes, dict[str, StoredArray]]:
    """Header of `weights.safetensors`, and its arrays with their offsets; wider dtypes first, for alignment."""
    if not computed:
        return b"", {}
    parts = {
        name: StoredArray(path=Path(COMPUTED_FILE), offset=0, dtype=dtype, shape=shape)
        for arrays in computed
        for name, (dtype, shape) in arrays.shapes.items()
    }
    entries: dict[str, object] = {}
    begins: dict[str, int] = {}
    end = 0
    for name, part in sorted(parts.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        begins[name], end = end, end + part.nbytes
        entries[name] = {
            "dtype": _SAFETENSORS_DTYPES[part.dtype.name],
            "shape": list(part.shape),
            "data_offsets": [begins[name], end],
        }
    document = json.dumps(entries, separators=(",", ":")).encode()
    document += b" " * (-len(document) % _HEADER_ALIGNMENT)
    header = struct.pack("<Q", len(document)) + document
    return header, {name: dataclasses.replace(part, offset=len(header) + begins[name]) for name, part in parts.items()}


def _reserve(file: BinaryIO, nbytes: int) -> None:
    """Room for a file's content, where the file system can: writing it then takes less of the system's time."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, nbytes)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise


def _stream(arrays: ComputedArrays, tensors: Tensors, file: BinaryIO) -> None:
    """Writes computed arrays to their offsets, some rows at a time."""
    places = [tensors[name] for name in arrays.shapes]
    for start, pieces in arrays.pieces():
        for place, piece in zip(places, pieces, strict=True):
            file.seek(place.rows(start, place.shape[0]).offset)
            file.write(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
