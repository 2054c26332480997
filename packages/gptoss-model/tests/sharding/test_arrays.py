import jax
import numpy as np
import pytest
from gptoss_model import make_mesh
from gptoss_model.sharding.arrays import read_sharded
from gptoss_weights import Mxfp4Tensor
from jax.sharding import PartitionSpec as P


class Reader:
    """Gives parts of a value and keeps what was asked for."""

    def __init__(self, value):
        self.value, self.bytes, self.largest = value, 0, 0

    def __call__(self, slices):
        part = self.value[slices]
        self.bytes, self.largest = self.bytes + part.nbytes, max(self.largest, part.nbytes)
        return part


@pytest.mark.parametrize("partition", [P("expert", ("tensor", "fsdp")), P(None, "tensor"), P(), P("fsdp")], ids=str)
def test_array_is_read_part_by_part_and_no_byte_twice(partition):
    mesh = make_mesh("fsdp=2,expert=2,tensor=2")
    read = Reader(np.arange(6 * 16 * 3, dtype=np.float32).reshape(6, 16, 3))
    array = read_sharded(read.value.shape, mesh, partition, read)
    np.testing.assert_array_equal(array, read.value)
    assert array.sharding == jax.sharding.NamedSharding(mesh, partition)
    assert read.bytes == read.value.nbytes
    assert read.largest == array.addressable_shards[0].data.nbytes


@pytest.mark.parametrize("partition", [P("expert", None, "tensor"), P("expert", ("tensor", "fsdp")), P()], ids=str)
def test_packed_array_is_read_in_whole_blocks(partition, rng):
    mesh = make_mesh("data=2,expert=2,tensor=2")
    packed = Mxfp4Tensor(
        rng.integers(0, 256, (6, 4, 2, 16)).astype(np.uint8), rng.integers(0, 200, (6, 4, 2)).astype(np.uint8)
    )
    read = Reader(packed)
    array = read_sharded(packed.shape, mesh, partition, read, packed=True)
    np.testing.assert_array_equal(array.blocks, packed.blocks)
    np.testing.assert_array_equal(array.scales, packed.scales)
    assert read.bytes == packed.nbytes
    assert read.largest == sum(half.addressable_shards[0].data.nbytes for half in (array.blocks, array.scales))
