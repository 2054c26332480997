"""The weight files that a graph reads: in place inside its folder, copied into it, or computed for it.

ONNX keeps large tensors outside the graph as (file, offset, length), and a safetensors file is just
that behind its header. So a checkpoint's own files serve unchanged. What is stored nowhere (a
random checkpoint, a transformed one) is streamed into one more safetensors file, in slices, so that
memory stays bounded. ONNX wants locations relative to the graph and inside its folder.
"""

import dataclasses
import json
import math
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gptoss_weights import Checkpoint, CheckpointError, Mxfp4Tensor, NotEnoughSpaceError, StoredArray, StoredMxfp4

__all__ = ["COMPUTED_FILE", "WeightFiles", "plan_weight_files"]

COMPUTED_FILE = "weights.safetensors"
_SLICE_BYTES = 64 << 20  # of a computed tensor at a time
_HEADER_ALIGNMENT = 8  # of the first tensor, as the safetensors library does it
_SAFETENSORS_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "uint8": "U8"}

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
    """

    tensors: Tensors
    in_place: tuple[Path, ...]
    copies: Mapping[Path, Path]
    computed_header: bytes

    @property
    def computed_bytes(self) -> int:
        """Size of `weights.safetensors`, 0 without."""
        ends = [t.offset + t.nbytes for t in self.tensors.values() if t.path == Path(COMPUTED_FILE)]
        return max(ends, default=0) if self.computed_header else 0

    @property
    def bytes_to_write(self) -> int:
        """Size of all files that will be copied or computed."""
        return sum(source.stat().st_size for source in self.copies.values()) + self.computed_bytes

    @property
    def locations(self) -> tuple[Path, ...]:
        """Relative paths of all weight files."""
        return (*self.in_place, *self.copies, *([Path(COMPUTED_FILE)] if self.computed_header else []))

    def write(self, checkpoint: Checkpoint, folder: Path) -> Iterator[Path]:
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
                file.write(self.computed_header)
                for name in checkpoint:
                    if checkpoint.stored(name) is None:
                        _stream(checkpoint, name, self.tensors, file)
            yield path


def plan_weight_files(checkpoint: Checkpoint, output: Path) -> WeightFiles:
    """Decides for every tensor where it will stand, for a graph in the folder `output`.

    Raises:
        CheckpointError: a file in place is a symbolic or hard link, which ONNX readers refuse.
    """
    output = output.resolve()
    stored: dict[str, StoredArray] = {}
    computed: dict[str, StoredArray] = {}
    for name in checkpoint:
        place = checkpoint.stored(name)
        if place is None:
            computed |= _computed_parts(checkpoint, name)
        elif isinstance(place, StoredMxfp4):
            stored |= {f"{name}_blocks": place.blocks, f"{name}_scales": place.scales}
        else:
            stored[name] = place
    in_place: list[Path] = []
    copies: dict[Path, Path] = {}
    locations: dict[Path, Path] = {}
    for path in dict.fromkeys(tensor.path for tensor in stored.values()):
        absolute = Path.absolute(path.parent.resolve() / path.name)
        if absolute.is_relative_to(output):
            if path.is_symlink() or path.stat().st_nlink > 1:
                raise CheckpointError(
                    "the weight file is a link to another, which ONNX readers refuse",
                    where=path,
                    fix="Export into another folder; the weights are copied there.",
                )
            locations[path] = absolute.relative_to(output)
            in_place.append(locations[path])
        else:
            locations[path] = _free_name(path.name, taken=copies)
            copies[locations[path]] = path
    header, placed = _computed_file(computed)
    tensors = {name: dataclasses.replace(tensor, path=locations[tensor.path]) for name, tensor in stored.items()}
    return WeightFiles(tensors=tensors | placed, in_place=tuple(in_place), copies=copies, computed_header=header)


def _free_name(name: str, *, taken: Mapping[Path, Path]) -> Path:
    """The name itself, or a numbered one if another file (or the computed one) has it."""
    candidate, number = Path(name), 1
    while candidate in taken or candidate == Path(COMPUTED_FILE):
        number += 1
        candidate = Path(f"{number}-{name}")
    return candidate


def _computed_parts(checkpoint: Checkpoint, name: str) -> dict[str, StoredArray]:
    """The arrays that a computed tensor consists of, offsets still open. One row tells the kind."""
    shape = checkpoint.specs[name].shape
    sample = checkpoint.read(name, (slice(0, 1),))
    arrays = (
        {f"{name}_blocks": sample.blocks, f"{name}_scales": sample.scales}
        if isinstance(sample, Mxfp4Tensor)
        else {name: sample}
    )
    return {
        part: StoredArray(path=Path(COMPUTED_FILE), offset=0, dtype=array.dtype, shape=(shape[0], *array.shape[1:]))
        for part, array in arrays.items()
    }


def _computed_file(parts: Tensors) -> tuple[bytes, dict[str, StoredArray]]:
    """Header of `weights.safetensors`, and the parts with their offsets; wider dtypes first, for alignment."""
    if not parts:
        return b"", {}
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


def _stream(checkpoint: Checkpoint, name: str, tensors: Tensors, file: BinaryIO) -> None:
    """Writes one computed tensor to its offsets, some rows at a time."""
    rows = checkpoint.specs[name].shape[0]
    parts = [tensors[part] for part in (name, f"{name}_blocks", f"{name}_scales") if part in tensors]
    row_bytes = sum(part.nbytes for part in parts) // rows
    step = max(1, math.floor(_SLICE_BYTES / row_bytes))
    for start in range(0, rows, step):
        piece = checkpoint.read(name, (slice(start, min(start + step, rows)),))
        arrays = (piece.blocks, piece.scales) if isinstance(piece, Mxfp4Tensor) else (piece,)
        for part, array in zip(parts, arrays, strict=True):
            file.seek(part.rows(start, rows).offset)
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
