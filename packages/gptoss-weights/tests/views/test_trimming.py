"""trimmed keeps the first layers and experts, lazily, and names the same bytes on disk."""

from pathlib import Path

import numpy as np
import pytest
from gptoss_weights import Mxfp4Tensor, StoredArray, StoredMxfp4, open_checkpoint, random_checkpoint, trimmed
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint
from hypothesis import given
from hypothesis import strategies as st

GATE_UP = "model.layers.1.mlp.experts.gate_up_proj"
ROUTER = "model.layers.1.mlp.router.weight"
SOURCE = random_checkpoint(tiny_config(), seed=3)


def values(tensor: np.ndarray | Mxfp4Tensor) -> np.ndarray:
    return tensor.decode() if isinstance(tensor, Mxfp4Tensor) else tensor


def test_config_names_and_shapes_are_those_of_the_smaller_model() -> None:
    view = trimmed(SOURCE, layers=3, experts=4)
    assert (view.config.num_hidden_layers, view.config.num_experts) == (3, 4)
    assert view.config.experts_per_token == SOURCE.config.experts_per_token
    assert "model.layers.3.self_attn.sinks" not in view
    for name, spec in view.specs.items():
        assert view.read(name).shape == spec.shape
        np.testing.assert_array_equal(values(view.read(name)), values(SOURCE.read(name))[: spec.shape[0]])
        assert view.array_dtype(name) == SOURCE.array_dtype(name)


INDICES = st.integers(-4, 3) | st.builds(
    slice, *[st.none() | st.integers(-6, 6)] * 2, st.sampled_from([None, 1, 2, -1])
)


@given(index=st.lists(INDICES, max_size=2).map(tuple), name=st.sampled_from([GATE_UP, ROUTER]))
def test_any_index_selects_what_it_selects_of_the_kept_experts(index: tuple[int | slice, ...], name: str) -> None:
    view = trimmed(SOURCE, experts=4)
    found, wanted = values(view.read(name, index)), values(SOURCE.read(name))[:4][index]
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found, wanted)


def test_index_past_the_kept_experts_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        trimmed(SOURCE, experts=4).read(ROUTER, (4,))


@pytest.mark.parametrize("method", ["read", "stored", "array_dtype"])
def test_tensor_of_a_layer_left_out_is_a_key_error(method: str) -> None:
    view = trimmed(SOURCE, layers=1)
    with pytest.raises(KeyError):
        getattr(view, method)(GATE_UP)


def test_stored_names_the_rows_that_are_kept(tmp_path: Path) -> None:
    view = trimmed(open_checkpoint(write_tiny_checkpoint(tmp_path / "a", format="openai")), experts=5)
    packed, router = view.stored(GATE_UP), view.stored(ROUTER)
    assert isinstance(packed, StoredMxfp4)
    assert isinstance(router, StoredArray)
    content = packed.blocks.path.read_bytes()
    tensor = view.read(GATE_UP)
    assert isinstance(tensor, Mxfp4Tensor)
    for stored, array in ((packed.blocks, tensor.blocks), (packed.scales, tensor.scales), (router, view.read(ROUTER))):
        assert content[stored.offset : stored.offset + stored.nbytes] == array.tobytes()


def test_keeping_everything_is_the_checkpoint_itself() -> None:
    assert trimmed(SOURCE) is SOURCE
    assert trimmed(SOURCE, layers=4, experts=7) is SOURCE


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"layers": 0}, "of 4 layers, between 1 and all can be kept, not 0"),
        ({"layers": 5}, "of 4 layers, between 1 and all can be kept, not 5"),
        ({"experts": 8}, "of 7 experts, between 3 .* can be kept, not 8"),
        ({"experts": 2}, "between 3 .as many as a token takes. and all can be kept, not 2"),
    ],
)
def test_impossible_numbers_are_refused(numbers: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        trimmed(SOURCE, **numbers)


def test_fingerprint_differs_with_what_is_kept() -> None:
    views = [SOURCE, trimmed(SOURCE, layers=2), trimmed(SOURCE, layers=3), trimmed(SOURCE, experts=4)]
    again = trimmed(random_checkpoint(tiny_config(), seed=3), layers=2)
    assert len({view.fingerprint() for view in views}) == 4
    assert again.fingerprint() == views[1].fingerprint()
