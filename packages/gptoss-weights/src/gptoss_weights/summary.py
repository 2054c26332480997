"""summarize: what a checkpoint holds, known without reading a weight."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.mxfp4 import MXFP4_BLOCK_SIZE
from gptoss_weights.schema import count_active_parameters, count_parameters

__all__ = ["CheckpointSummary", "TensorSummary", "place_name", "summarize"]

_MXFP4_BLOCK_BYTES = MXFP4_BLOCK_SIZE // 2 + 1  # codes and scale


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorSummary:
    """One canonical tensor: name, shape, dtype (`MXFP4` where packed), bytes, and where it stands, as `places` says."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    places: tuple[Path | str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointSummary:
    """Format, geometry and sizes; `active_parameters` counts those that one token multiplies."""

    format: str
    config: dict[str, Any]
    parameters: int
    active_parameters: int
    tensors: tuple[TensorSummary, ...]
    side_files: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def bytes_by_dtype(self) -> dict[str, int]:
        """Dtype → bytes of all tensors of it, largest first."""
        totals: dict[str, int] = {}
        for tensor in self.tensors:
            totals[tensor.dtype] = totals.get(tensor.dtype, 0) + tensor.nbytes
        return dict(sorted(totals.items(), key=lambda item: -item[1]))

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the tensors; of an Orbax tree, where each array has a folder, none."""
        found = {place for tensor in self.tensors for place in tensor.places}
        return tuple(sorted(place for place in found if isinstance(place, Path) and place.is_file()))

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON document."""
        return {
            "format": self.format,
            "config": self.config,
            "parameters": self.parameters,
            "active_parameters": self.active_parameters,
            "bytes": self.nbytes,
            "bytes_by_dtype": self.bytes_by_dtype,
            "files": {file.name: file.stat().st_size for file in self.files},
            "side_files": list(self.side_files),
            "tensors": [
                {
                    "name": tensor.name,
                    "shape": list(tensor.shape),
                    "dtype": tensor.dtype,
                    "bytes": tensor.nbytes,
                    "places": [place_name(place) for place in tensor.places],
                }
                for tensor in self.tensors
            ],
        }


def summarize(checkpoint: Checkpoint) -> CheckpointSummary:
    """Describes a checkpoint from its config and headers alone."""
    return CheckpointSummary(
        format=checkpoint.format,
        config=checkpoint.config.numbers(),
        parameters=count_parameters(checkpoint.config),
        active_parameters=count_active_parameters(checkpoint.config),
        tensors=tuple(_tensor_summaries(checkpoint)),
        side_files=tuple(sorted(checkpoint.side_files)),
    )


def place_name(place: Path | str) -> str:
    """The last part of a path or URL: the name of a file, or of the folder of an array."""
    return place.name if isinstance(place, Path) else place.rpartition("/")[2]


def _tensor_summaries(checkpoint: Checkpoint) -> Iterator[TensorSummary]:
    for name, spec in checkpoint.specs.items():
        dtype = checkpoint.array_dtype(name)
        yield TensorSummary(
            name=name,
            shape=spec.shape,
            dtype="MXFP4" if dtype is None else dtype.name,
            nbytes=spec.size // MXFP4_BLOCK_SIZE * _MXFP4_BLOCK_BYTES if dtype is None else spec.size * dtype.itemsize,
            places=checkpoint.places(name),
        )
