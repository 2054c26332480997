import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.ops import Mxfp4Array, decode_mxfp4
from gptoss_weights import decode_mxfp4 as decode_on_host
from safetensors.flax import load_file

DTYPES = [(jnp.bfloat16, np.uint16), (jnp.float32, np.uint32)]
ALL_BYTES = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), (256, 1, 1))
ALL_SCALES = np.tile(np.arange(256, dtype=np.uint8)[:, None], (1, 16))


def bits(values, unsigned):
    return np.asarray(values).view(unsigned)


@pytest.mark.parametrize(("dtype", "unsigned"), DTYPES)
def test_every_byte_under_every_scale_has_the_bits_of_the_host_decoder(dtype, unsigned):
    decoded = jax.jit(lambda b, s: decode_mxfp4(b, s, dtype=dtype))(ALL_BYTES, ALL_SCALES)
    expected = decode_on_host(ALL_BYTES, ALL_SCALES, dtype=dtype)
    np.testing.assert_array_equal(bits(decoded, unsigned), bits(expected, unsigned))


@pytest.mark.parametrize(("dtype", "unsigned"), DTYPES)
def test_codes_are_the_sixteen_values_low_nibble_first(dtype, unsigned):
    blocks = np.array([[(2 * j + 1) << 4 | 2 * j for j in range(8)] * 2], np.uint8)
    values = np.asarray(decode_mxfp4(blocks, np.array([127], np.uint8), dtype=dtype), np.float64)
    magnitudes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    assert values[:16].tolist() == magnitudes + [-m for m in magnitudes]
    assert np.signbit(values[8]), "code 8 is minus zero"


def test_smallest_scale_gives_subnormals_that_no_multiplication_would_keep():
    blocks = np.full((1, 16), 0x71, np.uint8)
    values = np.asarray(decode_mxfp4(blocks, np.array([0], np.uint8), dtype=jnp.float32))
    assert values[0] == np.float32(2.0**-128)
    assert values[1] == np.float32(6 * 2.0**-127)


@pytest.mark.parametrize(("dtype", "unsigned"), DTYPES)
def test_goldens_of_the_official_decoder_are_met_bit_for_bit(reference, dtype, unsigned):
    golden = load_file(reference / "tiny.golden.safetensors")
    decoded = decode_mxfp4(golden["dequant.blocks"], golden["dequant.scales"], dtype=dtype)
    expected = golden["dequant.bf16" if dtype == jnp.bfloat16 else "dequant.f32"]
    np.testing.assert_array_equal(bits(decoded, unsigned)[:253], bits(expected, unsigned)[:253])


def test_one_entry_of_a_packed_array_stays_packed():
    packed = Mxfp4Array(jnp.asarray(ALL_BYTES), jnp.asarray(ALL_SCALES))
    assert packed.shape == (256, 512)
    np.testing.assert_array_equal(packed[130].decode(jnp.float32), packed.decode(jnp.float32)[130])
    assert Mxfp4Array.zeros((5, 3, 64)).shape == (5, 3, 64)


def test_another_dtype_is_refused():
    with pytest.raises(ValueError, match="bfloat16 or float32, not float16"):
        decode_mxfp4(ALL_BYTES, ALL_SCALES, dtype=jnp.float16)


@pytest.mark.parametrize(("dtype", "unsigned"), DTYPES)
def test_split_matrix_has_the_same_bits_in_the_order_that_it_gives_to_rows(dtype, unsigned):
    packed = Mxfp4Array(jnp.asarray(ALL_BYTES), jnp.asarray(ALL_SCALES))
    split = jax.jit(lambda packed: packed.decode_split(dtype))(packed)
    assert split.shape == packed.shape
    decoded = packed.decode(dtype)
    np.testing.assert_array_equal(bits(split.values, unsigned), bits(split.order(decoded), unsigned))
    first_block = np.asarray(split.order(jnp.arange(64.0)[None]))[0, :32]
    assert first_block.tolist() == [*range(0, 32, 2), *range(1, 32, 2)]
