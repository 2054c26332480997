import hashlib
import json

import numpy as np
import pytest
from gptoss_onnx.source_digest import source_digest
from gptoss_weights import Checkpoint, Mxfp4Tensor, cast, open_checkpoint, random_checkpoint, save_checkpoint, trimmed
from gptoss_weights.testing import tiny_config

SOURCE = random_checkpoint(tiny_config(), seed=1)


class Altered(Checkpoint):
    """SOURCE, but for one tensor, to whose values or scales one is added everywhere."""

    def __init__(self, altered: str, part: str = "values") -> None:
        self.config, self.format, self.side_files = SOURCE.config, "altered", {}
        self._altered, self._part = altered, part

    def read(self, name, index=()):
        tensor = SOURCE.read(name, index)
        if name != self._altered:
            return tensor
        if not isinstance(tensor, Mxfp4Tensor):
            return (tensor.astype(np.float32) + 1).astype(tensor.dtype)
        change = {part: 1 if part == self._part else 0 for part in ("blocks", "scales")}
        return Mxfp4Tensor(tensor.blocks + np.uint8(change["blocks"]), tensor.scales + np.uint8(change["scales"]))


@pytest.mark.parametrize("layout", ["openai", "hf", "orbax-scanned"])
def test_the_digest_is_the_same_in_every_layout(layout, tmp_path, request):
    if layout == "orbax-scanned":
        pytest.importorskip("tensorstore", reason="reading Orbax needs the extra orbax of gptoss-weights")
    save_checkpoint(SOURCE, tmp_path / "saved", format=layout)
    stored = open_checkpoint(tmp_path / "saved")
    expected = source_digest(SOURCE)
    if layout == "orbax-scanned":  # keeps no packed experts
        assert source_digest(stored) == source_digest(open_checkpoint(tmp_path / "saved")) != expected
    else:
        assert source_digest(stored) == expected


@pytest.mark.parametrize("name", SOURCE.specs)
def test_a_change_of_any_tensor_changes_the_digest(name):
    assert source_digest(Altered("none of them")) == source_digest(SOURCE)
    parts = ["values"] if SOURCE.array_dtype(name) is not None else ["blocks", "scales"]
    assert len({source_digest(SOURCE), *(source_digest(Altered(name, part)) for part in parts)}) == 1 + len(parts)


def test_other_numbers_of_the_config_and_other_dtypes_are_another_source():
    views = [SOURCE, trimmed(SOURCE, layers=1), cast(SOURCE, "float32"), random_checkpoint(tiny_config(), seed=2)]
    assert len({source_digest(view) for view in views}) == len(views)


def test_four_rows_of_each_matrix_are_taken_in():
    """Written down a second time, for a model that is small enough to be indexed by hand."""
    checkpoint = random_checkpoint(tiny_config(num_hidden_layers=1, vocab_size=10), seed=1)
    sha = hashlib.sha256(json.dumps(checkpoint.config.numbers(), sort_keys=True).encode())
    taken = 0
    for name, spec in checkpoint.specs.items():
        tensor = checkpoint.read(name)
        halves = (tensor.blocks, tensor.scales) if isinstance(tensor, Mxfp4Tensor) else (tensor,)
        rows = [None] if len(spec.shape) == 1 else np.unique(np.linspace(0, spec.shape[0] - 1, 4).astype(int))
        for row in rows:
            for half in halves:
                array = half if row is None else half[row][None]
                if len(spec.shape) == 3:
                    array = array[:, np.unique(np.linspace(0, spec.shape[1] - 1, 4).astype(int))]
                sha.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
                taken += array.nbytes
    assert source_digest(checkpoint) == sha.hexdigest()
    assert taken > 1000
