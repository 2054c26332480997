import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from gptoss_train.checkpoints import CHUNK_BYTES
from gptoss_train.saved_arrays import open_saved_arrays
from gptoss_weights import CheckpointError


@pytest.fixture(scope="module")
def tree():
    rng = np.random.default_rng(0)
    return {
        "layers.every.w": jnp.asarray(rng.normal(size=(3, 5, 8)), jnp.float32),
        "layers.every.b": jnp.asarray(rng.normal(size=(3, 8)), jnp.bfloat16),
    }


@pytest.fixture(scope="module")
def folder(tree, tmp_path_factory):
    place = tmp_path_factory.mktemp("saved") / "parameters"
    with ocp.StandardCheckpointer() as saver:
        saver.save(place, tree)
    return str(place)


@pytest.mark.parametrize("index", [(), (1,), (-1, slice(1, 4)), (slice(0, 3, 2), 2), (2, slice(None), slice(-3, None))])
def test_parts_are_those_of_the_array(tree, folder, index):
    found = open_saved_arrays(folder, tree)
    for name, value in tree.items():
        expected = np.asarray(value)[index[: value.ndim]]
        assert found[name].shape == value.shape
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name][index[: value.ndim]], expected)


def test_what_is_missing_is_named(folder):
    with pytest.raises(CheckpointError, match=r"layers\.other\.w"):
        open_saved_arrays(folder, ["layers.other.w"])


def test_a_row_of_a_stack_is_a_chunk_of_its_own_at_most_so_large(tmp_path):
    """Otherwise each layer would be read with all others."""
    from gptoss_train.checkpoints import Checkpoints
    from gptoss_train.config import CheckpointConfig
    from gptoss_train.state import TrainState

    side = 2048
    stack = jnp.zeros((8, side, side), jnp.float32)
    assert stack.nbytes > CHUNK_BYTES
    checkpoints = Checkpoints(str(tmp_path), CheckpointConfig(mode="sync"))
    zero = jnp.zeros((), jnp.int32)
    checkpoints.save(TrainState(step=zero, skipped=zero, parameters={"w": stack}, optimizer={"m": zero}), {}, {})
    checkpoints.close()
    [saved] = open_saved_arrays(f"{tmp_path}/checkpoints/0/parameters", ["w"]).values()
    assert np.prod(saved.chunk_shape) * saved.dtype.itemsize <= CHUNK_BYTES
