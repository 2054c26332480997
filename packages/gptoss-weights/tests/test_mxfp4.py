"""MXFP4 decodes exactly, and every value that it can hold survives encoding."""

import math
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from gptoss_weights import FP4_VALUES, Mxfp4Tensor, decode_mxfp4, encode_mxfp4
from gptoss_weights.formats.safetensors_files import read_header
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def every_byte_under_every_scale() -> Mxfp4Tensor:
    """256 rows, one a scale; 16 groups of 16 bytes, together every byte."""
    blocks = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), (256, 1, 1))
    scales = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 16, axis=1)
    return Mxfp4Tensor(blocks, scales)


@pytest.mark.parametrize("dtype", [BFLOAT16, np.dtype(np.float32)])
def test_every_byte_under_every_scale_decodes_as_the_format_says(dtype: np.dtype) -> None:
    packed = every_byte_under_every_scale()
    decoded = packed.decode(dtype)
    assert (decoded.dtype, decoded.shape) == (dtype, (256, 512))
    for scale in range(256):
        for byte in range(256):
            for code, value in zip((byte & 15, byte >> 4), decoded[scale, 2 * byte : 2 * byte + 2], strict=True):
                exact = math.ldexp(FP4_VALUES[code], scale - 127)
                if scale <= 252:
                    assert float(value) == exact
                else:
                    assert float(value) == (exact if abs(exact) < 2.0**128 else math.copysign(math.inf, exact))
                assert np.signbit(value) == (code >= 8)


@pytest.mark.parametrize("dtype", [BFLOAT16, np.dtype(np.float32)])
def test_a_scale_alone_decodes_as_among_all_others(dtype: np.dtype) -> None:
    packed = every_byte_under_every_scale()
    together = packed.decode(dtype)
    for scale in range(256):
        np.testing.assert_array_equal(packed[scale].decode(dtype).view(np.uint8), together[scale].view(np.uint8))


@pytest.mark.parametrize("dtype", [BFLOAT16, np.dtype(np.float32)])
def test_decode_is_bit_equal_to_the_official_code(reference: Path, dtype: np.dtype) -> None:
    golden = reference / "tiny.golden.safetensors"
    arrays = {}
    for name, stored in read_header(golden).items():
        if name.startswith("dequant."):
            content = golden.read_bytes()[stored.offset : stored.offset + stored.nbytes]
            arrays[name.removeprefix("dequant.")] = np.frombuffer(content, stored.dtype).reshape(stored.shape)
    blocks, scales = arrays["blocks"], arrays["scales"]
    official = next(a for n, a in arrays.items() if a.dtype == dtype)
    decoded = decode_mxfp4(blocks, scales, dtype=dtype).reshape(official.shape)
    np.testing.assert_array_equal(decoded.view(np.uint8), official.view(np.uint8))


def test_low_nibble_comes_first_and_scale_is_a_power_of_two() -> None:
    blocks = np.zeros((1, 16), np.uint8)
    blocks[0, 0] = 0x7A  # low nibble 10: −1; high nibble 7: 6
    decoded = decode_mxfp4(blocks, np.array([129], np.uint8), dtype=np.float32)
    np.testing.assert_array_equal(decoded[:3], [-4.0, 24.0, 0.0])


@pytest.mark.parametrize("dtype", [BFLOAT16, np.dtype(np.float32)])
@pytest.mark.parametrize("threads", [1, 3])
def test_large_tensors_decode_alike_in_chunks_and_threads(dtype: np.dtype, threads: int) -> None:
    rng = np.random.default_rng(0)
    groups = 4 * 65536 + 5  # enough for more than three threads, and no whole number of chunks
    scales = rng.choice(np.array([0, 1, 2, 3, 120, 127, 251, 252, 253, 255], np.uint8), groups)
    blocks = rng.integers(0, 256, (groups, 16), np.uint8)
    expected = every_byte_under_every_scale().decode(dtype).reshape(256, 256, 2)[scales[:, None], blocks].reshape(-1)
    decoded = decode_mxfp4(blocks, scales, dtype=dtype, threads=threads)
    np.testing.assert_array_equal(decoded.view(np.uint8), expected.view(np.uint8))


def test_decoding_fills_an_array_that_is_given() -> None:
    packed = every_byte_under_every_scale()
    out = np.empty(packed.shape, BFLOAT16)
    assert decode_mxfp4(packed.blocks, packed.scales, out=out) is out
    np.testing.assert_array_equal(out.view(np.uint16), packed.decode().view(np.uint16))


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (np.empty((2, 96), np.float32), r"it is float32 \(2, 96\)"),
        (np.empty((2, 64), BFLOAT16), r"C-contiguous bfloat16 \(2, 96\); it is bfloat16 \(2, 64\)"),
        (np.empty((2, 192), BFLOAT16)[:, ::2], "not contiguous"),
    ],
)
def test_an_array_that_cannot_take_the_values_is_refused(out: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode_mxfp4(np.zeros((2, 3, 16), np.uint8), np.zeros((2, 3), np.uint8), out=out)


def test_a_number_of_threads_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="threads must be positive, not 0"):
        decode_mxfp4(np.zeros((1, 16), np.uint8), np.zeros(1, np.uint8), threads=0)


def test_decoding_holds_little_beside_its_result() -> None:
    blocks, scales = np.zeros((1 << 19, 16), np.uint8), np.full(1 << 19, 127, np.uint8)
    out = np.empty(32 << 19, np.float32)  # 64 MiB
    tracemalloc.start()
    try:
        decode_mxfp4(blocks, scales, dtype=np.float32, out=out, threads=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20


def test_blocks_may_stand_at_any_address_and_stride() -> None:
    packed = every_byte_under_every_scale()
    odd = np.zeros(packed.blocks.size + 1, np.uint8)[1:].reshape(packed.blocks.shape)
    odd[...] = packed.blocks
    strided = np.repeat(packed.blocks, 2, axis=-1)[..., ::2]
    for blocks in (odd, strided, packed.blocks[:, ::2]):
        scales = packed.scales[:, :: 16 // blocks.shape[1]]
        expected = Mxfp4Tensor(blocks.copy(), scales.copy()).decode()
        np.testing.assert_array_equal(decode_mxfp4(blocks, scales).view(np.uint16), expected.view(np.uint16))


packed_tensors = st.tuples(
    hnp.arrays(np.uint8, (2, 3, 16)),
    hnp.arrays(np.uint8, (2, 3), elements=st.integers(0, 252)),
).map(lambda pair: Mxfp4Tensor(*pair))


@settings(deadline=None)
@given(packed=packed_tensors)
def test_encoding_a_decoded_tensor_keeps_every_value(packed: Mxfp4Tensor) -> None:
    values = packed.decode(np.float32)
    again = encode_mxfp4(values).decode(np.float32)
    np.testing.assert_array_equal(again, values)
    np.testing.assert_array_equal(np.signbit(again), np.signbit(values))


@settings(deadline=None)
@given(values=hnp.arrays(np.float32, (2, 32), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_encoding_takes_the_nearest_value_of_its_scale(values: np.ndarray) -> None:
    packed = encode_mxfp4(values)
    decoded = packed.decode(np.float32).astype(np.float64)
    representable = np.array(FP4_VALUES) * np.exp2(packed.scales.astype(np.float64) - 127)[..., None]
    nearest = np.abs(values.astype(np.float64)[..., None] - representable[:, 0, None, :]).min(axis=-1)
    np.testing.assert_array_equal(np.abs(values - decoded), nearest)


def test_values_next_to_a_midpoint_round_to_their_own_side() -> None:
    midpoints = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], np.float32)
    for towards, nearest in ((0, FP4_VALUES[:7]), (8, FP4_VALUES[1:8])):
        values = np.zeros(32, np.float32)
        values[:7], values[7] = np.nextafter(midpoints, np.float32(towards)), 6
        np.testing.assert_array_equal(encode_mxfp4(values).decode(np.float32)[:7], nearest)


def test_large_tensors_encode_alike_in_chunks() -> None:
    values = np.random.default_rng(0).normal(size=(3, 2000, 64)).astype(BFLOAT16)
    packed = encode_mxfp4(values)
    assert packed.shape == values.shape
    for row in (0, 1999):
        alone = encode_mxfp4(values[2, row])
        np.testing.assert_array_equal(packed[2, row].blocks, alone.blocks)
        np.testing.assert_array_equal(packed[2, row].scales, alone.scales)


def test_ties_go_to_the_even_code() -> None:
    values = np.zeros(32, np.float32)
    values[:9] = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0, -2.5]  # the 6 sets the scale to one
    decoded = encode_mxfp4(values).decode(np.float32)
    np.testing.assert_array_equal(decoded[:9], [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 6.0, -2.0])


def test_indexing_stays_packed_and_agrees_with_indexing_values() -> None:
    rng = np.random.default_rng(0)
    packed = Mxfp4Tensor(rng.integers(0, 256, (3, 5, 4, 16), np.uint8), rng.integers(100, 140, (3, 5, 4), np.uint8))
    values = packed.decode()
    assert packed.shape == values.shape == (3, 5, 128)
    assert packed.nbytes == 3 * 5 * 4 * 17
    for index in (1, (1, 2), slice(1, 3), (slice(None), 4), (2, slice(1, 3), slice(32, 96)), (0, 0, slice(None))):
        np.testing.assert_array_equal(packed[index].decode(), values[index])


@pytest.mark.parametrize("last", [5, slice(0, 16), slice(16, 64), slice(0, 64, 2)])
def test_a_block_is_not_cut(last: int | slice) -> None:
    packed = Mxfp4Tensor(np.zeros((2, 2, 16), np.uint8), np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="block"):
        packed[0, last]


def test_parts_that_do_not_belong_together_are_refused() -> None:
    blocks, scales = np.zeros((2, 3, 16), np.uint8), np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match="do not fit"):
        Mxfp4Tensor(blocks, scales[:1])
    with pytest.raises(ValueError, match="uint8"):
        Mxfp4Tensor(blocks.astype(np.int8), scales)
    with pytest.raises(ValueError, match="bfloat16 or float32, not float16"):
        decode_mxfp4(blocks, scales, dtype=np.float16)


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of 32"):
        encode_mxfp4(np.zeros((2, 33), np.float32))
    with pytest.raises(ValueError, match="not finite"):
        encode_mxfp4(np.full(32, np.inf, np.float32))
