"""The KV cache: rotated keys and values of every token so far, addressed by position.

A full layer keeps `max_length` slots and stores position p in slot p. A sliding layer needs the
last W positions only: a ring of W slots, position p in slot p mod W. Every sequence fills positions
0, 1, 2, … without gaps, wherever its tokens stand in a padded batch, so its length alone says what
each slot holds: nothing else is stored, and nothing can contradict it.

New tokens must see what the ring is about to forget: a query at position p sees p − W + 1, whose
slot the last of the new tokens may take. Sliding layers therefore attend over the ring as it was,
followed by the new tokens, and only then write the last W of them. Padding goes to a slot out of
range, which XLA drops.

Memory in bytes: 2 · B · K · H · itemsize · (max_length · full layers + W · sliding layers).
"""

import dataclasses

import jax
import jax.numpy as jnp
from gptoss_weights import GptOssConfig
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

__all__ = ["KVCache", "KeyValues", "LayerCache", "full_positions", "init_cache", "ring_positions", "token_positions"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class KVCache:
    """Keys and values of a batch. A value: `prefill` and `decode_step` take one and return the next.

    Attributes:
        keys: For each layer [B, slots, K, H], rotated.
        values: For each layer [B, slots, K, H].
        lengths: How many tokens each sequence has so far, int32 [B].
        windows: For each layer the slots of its ring, or None for a full layer.
        max_length: How many tokens a sequence can have.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    lengths: jax.Array
    windows: tuple[int | None, ...] = dataclasses.field(metadata={"static": True})
    max_length: int = dataclasses.field(metadata={"static": True})

    def layer(self, layer: int) -> "LayerCache":
        """The part that one layer reads and extends."""
        return LayerCache(self.keys[layer], self.values[layer], self.lengths, self.windows[layer])

    def advance(self, layers: "list[LayerCache]", mask: Bool[Array, "B T"]) -> "KVCache":
        """The cache after a step: what the layers have written, and the lengths with the new tokens."""
        return dataclasses.replace(
            self,
            keys=tuple(layer.keys for layer in layers),
            values=tuple(layer.values for layer in layers),
            lengths=self.lengths + mask.sum(axis=1, dtype=jnp.int32),
        )


@dataclasses.dataclass(frozen=True)
class KeyValues:
    """What queries attend over: keys and values [B, S, K, H], and the position of each, int32 [B, S], or −1."""

    keys: jax.Array
    values: jax.Array
    positions: jax.Array


@dataclasses.dataclass(frozen=True)
class LayerCache:
    """One layer's part of a `KVCache`; `window` is the size of its ring, or None for a full layer."""

    keys: jax.Array
    values: jax.Array
    lengths: jax.Array
    window: int | None

    def extend(
        self, k: Float[Array, "B T K H"], v: Float[Array, "B T K H"], positions: Int[Array, "B T"]
    ) -> tuple[KeyValues, "LayerCache"]:
        """Adds new tokens.

        Args:
            k: Their rotated keys.
            v: Their values.
            positions: Their positions, following those already there; −1 for padding.

        Returns:
            What they attend over, themselves included, and the layer's cache with them.
        """
        if self.window is None:
            return self._extend_full(k, v, positions)
        return self._extend_ring(k, v, positions)

    def _extend_full(self, k: jax.Array, v: jax.Array, positions: jax.Array) -> "tuple[KeyValues, LayerCache]":
        slots = self.keys.shape[1]
        written = self._write(k, v, jnp.where(positions >= 0, positions, slots))
        lengths = self.lengths + (positions >= 0).sum(axis=1, dtype=jnp.int32)
        return KeyValues(written.keys, written.values, full_positions(lengths, slots)), written

    def _extend_ring(self, k: jax.Array, v: jax.Array, positions: jax.Array) -> "tuple[KeyValues, LayerCache]":
        slots = self.keys.shape[1]
        seen = KeyValues(
            jnp.concatenate([self.keys, k], axis=1),
            jnp.concatenate([self.values, v], axis=1),
            jnp.concatenate([ring_positions(self.lengths, slots), positions], axis=1),
        )
        lengths = self.lengths + (positions >= 0).sum(axis=1, dtype=jnp.int32)
        stays = (positions >= 0) & (positions >= lengths[:, None] - slots)
        return seen, self._write(k, v, jnp.where(stays, positions % slots, slots))

    def _write(self, k: jax.Array, v: jax.Array, slots: jax.Array) -> "LayerCache":
        rows = jnp.arange(k.shape[0])[:, None]
        return dataclasses.replace(
            self,
            keys=self.keys.at[rows, slots].set(k, mode="drop", unique_indices=False),
            values=self.values.at[rows, slots].set(v, mode="drop", unique_indices=False),
        )


def init_cache(config: GptOssConfig, batch: int, max_length: int, dtype: DTypeLike) -> KVCache:
    """An empty cache for `batch` sequences of at most `max_length` tokens, prompt and answer together.

    Raises:
        ValueError: a size is not positive.
    """
    if batch < 1 or max_length < 1:
        raise ValueError(f"a cache needs a batch and a max_length of at least 1, not {batch} and {max_length}")
    window = min(config.sliding_window, max_length)
    windows = tuple(window if config.is_sliding(layer) else None for layer in range(config.num_hidden_layers))

    def buffers() -> tuple[jax.Array, ...]:
        K, H = config.num_key_value_heads, config.head_dim
        return tuple(jnp.zeros((batch, slots or max_length, K, H), dtype) for slots in windows)

    return KVCache(
        keys=buffers(),
        values=buffers(),
        lengths=jnp.zeros(batch, jnp.int32),
        windows=windows,
        max_length=max_length,
    )


def token_positions(mask: Bool[Array, "B T"], lengths: Int[Array, " B"] | None = None) -> Int[Array, "B T"]:
    """Position of each real token in its sequence, after the `lengths` tokens before it; −1 for padding."""
    positions = jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1
    if lengths is not None:
        positions += lengths[:, None]
    return jnp.where(mask, positions, -1)


def full_positions(lengths: Int[Array, " B"], slots: int) -> Int[Array, "B slots"]:
    """Position that each slot of a full layer holds, or −1."""
    slot = jnp.arange(slots, dtype=jnp.int32)[None]
    return jnp.where(slot < lengths[:, None], slot, -1)


def ring_positions(lengths: Int[Array, " B"], slots: int) -> Int[Array, "B slots"]:
    """Position that each slot of a ring holds: the largest p < length with p mod slots = slot, or −1."""
    last = lengths[:, None] - 1
    slot = jnp.arange(slots, dtype=jnp.int32)[None]
    position = last - (last - slot) % slots
    return jnp.where(position >= 0, position, -1)
