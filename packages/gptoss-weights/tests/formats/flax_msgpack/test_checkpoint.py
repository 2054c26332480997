"""Reading parameters out of leaves: fused, transposed or cut, whole or by slices, always the same values."""

from pathlib import Path

import numpy as np
import pytest
from gptoss_weights import Checkpoint, Index, Mxfp4Tensor, random_checkpoint
from gptoss_weights.formats.flax_msgpack import encoding, open_flax, rows, write_flax
from gptoss_weights.testing import tiny_config
from hypothesis import given
from hypothesis import strategies as st

LAYER = "model.layers.1"
FUSED = f"{LAYER}.self_attn.k_proj.weight"
EXPERTS = f"{LAYER}.mlp.experts.down_proj"


def bundle(folder: Path, chunk_bytes: int) -> Checkpoint:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "MAX_CHUNK_BYTES", chunk_bytes)
        write_flax(random_checkpoint(tiny_config(num_hidden_layers=2), seed=3), folder / f"{chunk_bytes}.msgpack")
    return open_flax(folder / f"{chunk_bytes}.msgpack", config=None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return bundle(tmp_path_factory.mktemp("whole"), 2**30)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Chunks of 101 elements: shorter than a row of most leaves, and never a whole number of rows."""
    return bundle(tmp_path_factory.mktemp("cut"), 203)


def expected(name: str) -> np.ndarray:
    tensor = random_checkpoint(tiny_config(num_hidden_layers=2), seed=3).read(name)
    return tensor.decode() if isinstance(tensor, Mxfp4Tensor) else tensor


def test_every_parameter_has_its_shape_and_values(whole: Checkpoint, cut: Checkpoint) -> None:
    for name, spec in whole.specs.items():
        for checkpoint in (whole, cut):
            array = checkpoint.read_array(name)
            assert array.shape == spec.shape, name
            assert array.tobytes() == expected(name).tobytes(), name


def test_what_is_read_cannot_be_written_to(whole: Checkpoint, cut: Checkpoint) -> None:
    for name in whole:
        assert not whole.read_array(name).flags.writeable, name
        assert not cut.read_array(name).flags.writeable, name


def test_whole_leaves_are_views_of_the_file(whole: Checkpoint) -> None:
    for name in whole:
        array = whole.read_array(name)
        while isinstance(array.base, np.ndarray):
            array = array.base
        assert array.base is not None, f"{name} owns its memory"


ITEMS = st.integers(-5, 4) | st.builds(slice, *[st.none() | st.integers(-9, 9)] * 2, st.sampled_from([None, 1, 2, -1]))


@given(st.sampled_from([FUSED, EXPERTS]), st.lists(ITEMS, max_size=2), st.booleans())
def test_any_basic_index_selects_what_numpy_selects(
    name: str, index: list[int | slice], is_cut: bool, whole: Checkpoint, cut: Checkpoint
) -> None:
    found = (cut if is_cut else whole).read_array(name, tuple(index))
    wanted = expected(name)[tuple(index)]
    assert found.shape == wanted.shape
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("index", [(7,), (-8,), (0, 96), (0, 0, 64), (0, 0, 0, 0)])
def test_an_index_out_of_bounds_is_an_index_error(index: Index, whole: Checkpoint, cut: Checkpoint) -> None:
    for checkpoint in (whole, cut):
        with pytest.raises(IndexError):
            checkpoint.read_array(EXPERTS, index)


def test_copies_of_cut_leaves_are_made_run_by_run(cut: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_COPIED_BYTES", 1)
    for name in (FUSED, EXPERTS, "model.layers.0.self_attn.sinks"):
        assert cut.read_array(name).tobytes() == expected(name).tobytes()


def test_an_unknown_name_is_a_key_error(whole: Checkpoint) -> None:
    with pytest.raises(KeyError, match="no_such"):
        whole.read("no_such")
    with pytest.raises(KeyError, match="no_such"):
        whole.stored("no_such")


def test_nothing_is_said_to_stand_in_place(whole: Checkpoint) -> None:
    assert {whole.stored(name) for name in whole} == {None}
