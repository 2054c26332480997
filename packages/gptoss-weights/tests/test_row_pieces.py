"""Pieces of rows put together are the tensor, and stay below the limit."""

import numpy as np
import pytest
from gptoss_weights import Mxfp4Tensor, random_checkpoint
from gptoss_weights.row_pieces import row_pieces
from gptoss_weights.testing import tiny_config

CHECKPOINT = random_checkpoint(tiny_config(num_hidden_layers=1), seed=0)


@pytest.mark.parametrize("max_bytes", [1, 1000, 5000, 1 << 30])
@pytest.mark.parametrize("name", list(CHECKPOINT))
def test_pieces_together_are_the_tensor(name: str, max_bytes: int) -> None:
    whole = CHECKPOINT.read(name)
    row = 0
    for start, piece in row_pieces(CHECKPOINT, name, max_bytes=max_bytes):
        assert start == row
        rows = piece.shape[0]
        assert piece.nbytes <= max_bytes or rows == 1
        expected = whole[row : row + rows]
        if isinstance(piece, Mxfp4Tensor):
            assert isinstance(expected, Mxfp4Tensor)
            np.testing.assert_array_equal(piece.blocks, expected.blocks)
            np.testing.assert_array_equal(piece.scales, expected.scales)
        else:
            np.testing.assert_array_equal(piece, expected)
        row += rows
    assert row == whole.shape[0]


def test_unknown_tensor_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        list(row_pieces(CHECKPOINT, "no.such.tensor"))
