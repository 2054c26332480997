"""source_digest: tells from which weights an export was made, without reading them all.

An export that leaves the weights where they are takes a second, and hashing them would take a minute
for the 13 GB of gpt-oss-20b. Training changes every matrix, so samples of each tell checkpoints apart. They do
not vouch for every byte: that is what `gptoss-weights verify` is for.
"""

import hashlib
import json
from collections.abc import Iterator

import numpy as np
from gptoss_weights import Checkpoint, Mxfp4Tensor

__all__ = ["SAMPLES", "source_digest"]

SAMPLES = 4  # along each axis but the last


def source_digest(checkpoint: Checkpoint) -> str:
    """SHA-256 over the config's numbers and some rows of every tensor, the same in every layout.

    Vectors are taken in whole, of a matrix four rows from the first to the last, of an expert tensor four rows
    of four experts. Memory holds one expert's matrix at most, and that only where it is computed.
    """
    sha = hashlib.sha256(json.dumps(checkpoint.config.numbers(), sort_keys=True).encode())
    for name in checkpoint:
        for array in _samples(checkpoint, name):
            sha.update(f"{name} {array.dtype} {array.shape}".encode())
            sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _samples(checkpoint: Checkpoint, name: str) -> Iterator[np.ndarray]:
    shape = checkpoint.specs[name].shape
    if len(shape) == 1:
        yield checkpoint.read_array(name)
        return
    for row in _places(shape[0]):
        piece = checkpoint.read(name, (slice(row, row + 1),))
        for array in (piece.blocks, piece.scales) if isinstance(piece, Mxfp4Tensor) else (piece,):
            yield array if len(shape) == 2 else array[:, _places(shape[1])]


def _places(extent: int) -> list[int]:
    """Evenly spaced, the first and the last included."""
    return sorted({(extent - 1) * sample // (SAMPLES - 1) for sample in range(SAMPLES)})
