"""MXFP4 on the device: packed matrices as a pytree, and their exact decode by integer arithmetic.

A value is built from its bits, never by multiplying: XLA flushes subnormals to zero, so a product
with 2^(scale − 127) would lose what the smallest scales hold. For the code `s ee m` (sign, exponent,
mantissa) under the scale byte b, the magnitude is (1 + m/2)·2^(b − 127 + ee − 1) if ee > 0, and
m·2^(b − 127 − 1) if ee = 0. Both fit bfloat16, whose bits are the upper half of float32's.

On CPUs the order of the values costs more than their bits do. A loop over bytes that writes two
neighbours for each does not become vectors; one that writes the lower halves of a block's 16 bytes
and then the upper ones does, five times as fast. So what is to be multiplied is decoded in that
order (`SplitMatrix`), and the few rows that it meets are put into the same.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

__all__ = ["HALVES_FACTOR", "Mxfp4Array", "SplitMatrix", "decode_halves", "decode_mxfp4", "scale_factors"]

BLOCK_SIZE = 32  # values that share one scale
BF16_MANTISSA_BITS = 7
BF16_HIDDEN_BIT = 1 << BF16_MANTISSA_BITS
BF16_INFINITY = 0x7F80
BF16_SIGN_SHIFT = 12  # from bit 3 of a code to bit 15
F32_MANTISSA_BITS = 23
# A code at the top of an int16, shifted right by 3 with its sign, and masked, is a float16.
CODE_TO_F16_SHIFT = 3
F16_CODE_MASK = -0x7200  # the bits 15 and 11 … 9
HALVES_FACTOR = 2.0**14  # from such a float16 to the value of its code


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mxfp4Array:
    """A packed array on the device. `blocks` uint8 [..., G, 16], `scales` uint8 [..., G]; values [..., 32·G]."""

    blocks: jax.Array
    scales: jax.Array

    @staticmethod
    def zeros(shape: tuple[int, ...]) -> "Mxfp4Array":
        """A packed array of that shape, every byte zero."""
        *leading, extent = shape
        groups = (*leading, extent // BLOCK_SIZE)
        return Mxfp4Array(jnp.zeros((*groups, BLOCK_SIZE // 2), jnp.uint8), jnp.zeros(groups, jnp.uint8))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        *leading, groups = self.scales.shape
        return (*leading, groups * BLOCK_SIZE)

    def __getitem__(self, index: int | Int[Array, ""] | tuple[int | Int[Array, ""], ...]) -> "Mxfp4Array":
        """One entry along the first axis, or along the first axes, still packed."""
        return Mxfp4Array(self.blocks[index], self.scales[index])

    def decode(self, dtype: DTypeLike) -> Float[Array, "... in"]:
        """The values; see `decode_mxfp4`."""
        return decode_mxfp4(self.blocks, self.scales, dtype=dtype)

    def decode_split(self, dtype: DTypeLike) -> "SplitMatrix":
        """The same values in the order that is decoded fastest."""
        halves = self.blocks[..., None, :].astype(jnp.uint16)
        which = lax.broadcasted_iota(jnp.uint16, (1,) * (halves.ndim - 2) + (2, 1), halves.ndim - 2)
        codes = jnp.where(which == 0, halves & 0xF, halves >> 4)
        return SplitMatrix(_join_blocks(_decode_codes(codes, self.scales[..., None, None], dtype), blocked_axes=3))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SplitMatrix:
    """A decoded matrix [..., in] whose columns stand in another order: of every 32, the even ones before the odd ones.

    Attributes:
        values: The matrix in that order.
    """

    values: Float[Array, "... in"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        return self.values.shape

    def order(self, rows: Float[Array, "... in"]) -> Float[Array, "... in"]:
        """Rows to be multiplied with the matrix, in its order of columns."""
        pairs = rows.reshape(*rows.shape[:-1], -1, BLOCK_SIZE // 2, 2)
        return pairs.swapaxes(-1, -2).reshape(rows.shape)


def decode_mxfp4(
    blocks: UInt8[Array, "*leading G 16"], scales: UInt8[Array, "*leading G"], *, dtype: DTypeLike
) -> Float[Array, "*leading in"]:
    """Unpacks MXFP4, bit-equal to the official code for the scale bytes 0 … 252.

    Args:
        blocks: Two codes a byte, low nibble first.
        scales: One power of two for 32 values, biased by 127.
        dtype: bfloat16 or float32; both hold every value exactly.

    Returns:
        The values, [..., 32·G]. Magnitudes beyond the dtype (scale bytes 253 … 255) are infinite.

    Raises:
        ValueError: another dtype.

    Source: openai/gpt-oss torch/weights.py, `_get_mxfp4_tensor`.
    """
    # A byte becomes two, its lower half first. Shifts by 0 and 4 in an array would be an operand that XLA
    # takes out of a loop, and no longer knows the values of: a fifth of the speed on CPUs.
    doubled = blocks.astype(jnp.uint16)
    halves = lax.bitcast_convert_type((doubled | doubled << 4) & jnp.uint16(0x0F0F), jnp.uint8)
    codes = halves.reshape(*scales.shape, BLOCK_SIZE).astype(jnp.uint16)
    return _join_blocks(_decode_codes(codes, scales[..., None], dtype), blocked_axes=2)


def decode_halves(blocks: UInt8[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """The values of the codes in the lower and in the upper half of each byte, f32, both divided by `HALVES_FACTOR`.

    A few integer operations make float16s of the codes, whose subnormals the conversion to f32
    keeps. They multiply where they could shift to the left: XLA guards shifts against the width.
    """
    wide = blocks.astype(jnp.int16)

    def to_float(codes: jax.Array) -> jax.Array:
        shifted = lax.shift_right_arithmetic(codes, jnp.int16(CODE_TO_F16_SHIFT))
        return lax.bitcast_convert_type(shifted & jnp.int16(F16_CODE_MASK), jnp.float16).astype(jnp.float32)

    return to_float(wide * jnp.int16(1 << 12)), to_float(wide * jnp.int16(1 << 8))


def scale_factors(scales: UInt8[Array, "*shape"]) -> Float[Array, "*shape"]:
    """2^(scale − 127) in f32, for products with values that are decoded already.

    The smallest, 2^-127, is flushed to zero as every subnormal is; the scale byte 255 gives infinity.
    """
    bits = scales.astype(jnp.uint32) * jnp.uint32(1 << F32_MANTISSA_BITS)
    return lax.bitcast_convert_type(bits, jnp.float32)


def _decode_codes(codes: jax.Array, scales: jax.Array, dtype: DTypeLike) -> jax.Array:
    """The values of codes, uint16, under scales of as many axes."""
    magnitude = codes & 7
    # Biased exponent + 1, so that it is never negative; 0 and 1 stand for subnormals.
    exponent = scales.astype(jnp.uint16) + (magnitude >> 1)
    mantissa = jnp.where(magnitude >= 2, (magnitude & 1) << (BF16_MANTISSA_BITS - 1), 0).astype(jnp.uint16)
    normal = jnp.minimum(((exponent - 1) << BF16_MANTISSA_BITS) | mantissa, BF16_INFINITY)
    whole = BF16_HIDDEN_BIT | mantissa
    subnormal = jnp.where(exponent == 1, whole >> 1, whole >> 2)
    bits = jnp.where(exponent >= 2, normal, subnormal)
    bits = jnp.where(magnitude == 0, 0, bits) | (codes & 8) << BF16_SIGN_SHIFT
    return _from_bf16_bits(bits.astype(jnp.uint16), dtype)


def _join_blocks(values: jax.Array, *, blocked_axes: int) -> jax.Array:
    """Makes one of the last axes.

    On CPUs only when they are written: inside the loop that decodes, finding the block of each entry costs as much
    as decoding it.
    """

    def as_it_is(values: jax.Array) -> jax.Array:
        return values

    written: jax.Array = lax.platform_dependent(values, cpu=lax.optimization_barrier, default=as_it_is)
    return written.reshape(*values.shape[:-blocked_axes], -1)


def _from_bf16_bits(bits: jax.Array, dtype: DTypeLike) -> jax.Array:
    if dtype == jnp.bfloat16:
        return lax.bitcast_convert_type(bits, jnp.bfloat16)
    if dtype == jnp.float32:
        return lax.bitcast_convert_type(bits.astype(jnp.uint32) << 16, jnp.float32)
    raise ValueError(f"MXFP4 decodes to bfloat16 or float32, not {jnp.dtype(dtype).name}")
