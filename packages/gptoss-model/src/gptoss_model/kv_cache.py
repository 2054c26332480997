"""The KV cache: rotated keys and values of every token so far, addressed by position.

A full layer keeps `max_length` slots and stores position p in slot p. A sliding layer needs the
last W positions only: a ring of W slots, position p in slot p mod W. Every sequence fills positions
0, 1, 2, … without gaps, wherever its tokens stand in a padded batch, so its length alone says what
each slot holds: nothing else is stored, and nothing can contradict it.

New tokens must see what the ring is about to forget: a query at position p sees p − W + 1, whose
slot the last of the new tokens may take. Sliding layers therefore attend over the ring as it was,
followed by the new tokens, and only then write the last W of them. Padding goes to a slot out of
range, which XLA drops.

A model with `scan_layers` goes over its layers in a compiled loop, so its cache is two stacks, of
the even layers and of the odd ones. The loop carries the whole stacks and each layer writes its new
tokens into them in place: nothing but what is read and written is moved.

Memory in bytes: 2 · B · K · H · itemsize · (max_length · full layers + W · sliding layers).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from gptoss_weights import GptOssConfig
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from gptoss_model.ops.attention import StackedRows

__all__ = ["KVCache", "KeyValues", "LayerCache", "full_positions", "init_cache", "ring_positions", "token_positions"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class KVCache:
    """Keys and values of a batch. A value: `prefill` and `decode_step` take one and return the next.

    Attributes:
        keys: For each layer [B, slots, K, H], rotated; or two stacks [L, B, slots, K, H].
        values: For each layer [B, slots, K, H]; or two stacks.
        lengths: How many tokens each sequence has so far, int32 [B].
        windows: For each layer, or each stack, the slots of its ring, or None for full layers.
        max_length: How many tokens a sequence can have.
        scan_layers: Whether `keys` and `values` are the stacks of the even and of the odd layers.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    lengths: jax.Array
    windows: tuple[int | None, ...] = dataclasses.field(metadata={"static": True})
    max_length: int = dataclasses.field(metadata={"static": True})
    scan_layers: bool = dataclasses.field(default=False, metadata={"static": True})

    def check(self, config: GptOssConfig, dtype: DTypeLike) -> None:
        """That it is what `init_cache` makes for a model.

        Raises:
            ValueError: it is of another geometry or dtype.
        """
        batch = self.lengths.shape[0]
        make = functools.partial(init_cache, config, batch, self.max_length, dtype, scan_layers=self.scan_layers)
        expected: KVCache = jax.eval_shape(make)
        if self.windows != expected.windows:
            raise ValueError(
                f"the cache has windows {self.windows}, the model {expected.windows}; "
                "make the cache with the model's init_cache"
            )
        buffers = zip((*self.keys, *self.values), (*expected.keys, *expected.values), strict=True)
        for found, wanted in buffers:
            if found.shape != wanted.shape or found.dtype != wanted.dtype:
                raise ValueError(
                    f"the cache has buffers {found.dtype.name} {list(found.shape)}, the model wants "
                    f"{wanted.dtype.name} {list(wanted.shape)}; make the cache with the model's init_cache"
                )

    def part(self, number: int, row: Int[Array, ""] | None = None) -> "LayerCache":
        """What one layer reads and extends: of the layer of that number, or of a row of the stack of that number."""
        return LayerCache(self.keys[number], self.values[number], self.windows[number], self.lengths, row)

    def with_part(self, number: int, part: "LayerCache") -> "KVCache":
        """The cache with what a layer has written, and the lengths still without its tokens."""
        keys = (*self.keys[:number], part.keys, *self.keys[number + 1 :])
        values = (*self.values[:number], part.values, *self.values[number + 1 :])
        return dataclasses.replace(self, keys=keys, values=values)

    def advance(self, mask: Bool[Array, "B T"]) -> "KVCache":
        """The cache after all layers have written the real tokens of a mask."""
        return dataclasses.replace(self, lengths=self.lengths + mask.sum(axis=1, dtype=jnp.int32))


@dataclasses.dataclass(frozen=True)
class KeyValues:
    """What queries attend over: keys and values [B, S, K, H], and the position of each, int32 [B, S], or −1.

    A full layer of a scanned model leaves them in the stack of all layers.
    """

    keys: jax.Array | StackedRows
    values: jax.Array | StackedRows
    positions: jax.Array


@dataclasses.dataclass(frozen=True)
class LayerCache:
    """One layer's part of a `KVCache`.

    Attributes:
        keys: [B, slots, K, H], or the stack of it, [L, B, slots, K, H].
        values: As the keys.
        window: The size of the layer's ring, or None for a full layer.
        lengths: int32 [B].
        row: In a stack the entry of this layer.
    """

    keys: jax.Array
    values: jax.Array
    window: int | None
    lengths: jax.Array
    row: Int[Array, ""] | None = None

    @property
    def slots(self) -> int:
        """How many tokens of a sequence the layer can hold."""
        return self.keys.shape[-3]

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
        slots = self.slots
        written = self._write(k, v, jnp.where(positions >= 0, positions, slots))
        lengths = self.lengths + (positions >= 0).sum(axis=1, dtype=jnp.int32)
        return KeyValues(*written._held_in_place(), full_positions(lengths, slots)), written

    def _extend_ring(self, k: jax.Array, v: jax.Array, positions: jax.Array) -> "tuple[KeyValues, LayerCache]":
        slots = self.slots
        # In a stack the ring is written out, once: fused into what follows, it would be read after the
        # stack is written to, and XLA would copy the stack.
        keys, values = lax.optimization_barrier(self._held()) if self.row is not None else self._held()
        seen = KeyValues(
            jnp.concatenate([keys, k], axis=1),
            jnp.concatenate([values, v], axis=1),
            jnp.concatenate([ring_positions(self.lengths, slots), positions], axis=1),
        )
        lengths = self.lengths + (positions >= 0).sum(axis=1, dtype=jnp.int32)
        stays = (positions >= 0) & (positions >= lengths[:, None] - slots)
        ring = LayerCache(keys, values, self.window, self.lengths)
        ring = ring._write(k, v, jnp.where(stays, positions % slots, slots))
        return seen, self._with_ring(ring.keys, ring.values)

    def _held(self) -> tuple[jax.Array, jax.Array]:
        """The layer's own keys and values, [B, slots, K, H]."""
        if self.row is None:
            return self.keys, self.values
        return self.keys[self.row], self.values[self.row]

    def _with_ring(self, keys: jax.Array, values: jax.Array) -> "LayerCache":
        """The cache with another ring, [B, slots, K, H]."""
        if self.row is not None:
            keys, values = self.keys.at[self.row].set(keys), self.values.at[self.row].set(values)
        return dataclasses.replace(self, keys=keys, values=values)

    def _held_in_place(self) -> tuple[jax.Array | StackedRows, jax.Array | StackedRows]:
        """The same, but without a copy out of the stack."""
        if self.row is None:
            return self.keys, self.values
        return StackedRows(self.keys, self.row), StackedRows(self.values, self.row)

    def _write(self, k: jax.Array, v: jax.Array, slots: jax.Array) -> "LayerCache":
        batch = jnp.arange(k.shape[0])[:, None]
        at = (batch, slots) if self.row is None else (self.row, batch, slots)
        return dataclasses.replace(
            self,
            keys=self.keys.at[at].set(k, mode="drop", unique_indices=False),
            values=self.values.at[at].set(v, mode="drop", unique_indices=False),
        )


def init_cache(
    config: GptOssConfig, batch: int, max_length: int, dtype: DTypeLike, *, scan_layers: bool = False
) -> KVCache:
    """An empty cache for `batch` sequences of at most `max_length` tokens, prompt and answer together.

    Args:
        config: The geometry.
        batch: Number of sequences.
        max_length: The most tokens of one.
        dtype: Of keys and values: that of the model's activations.
        scan_layers: As the model has it (`GptOss.init_cache` knows).

    Raises:
        ValueError: a size is not positive.
    """
    if batch < 1 or max_length < 1:
        raise ValueError(f"a cache needs a batch and a max_length of at least 1, not {batch} and {max_length}")
    layers, window = config.num_hidden_layers, min(config.sliding_window, max_length)
    windows = tuple(window if config.is_sliding(layer) else None for layer in range(2 if scan_layers else layers))
    leading = (layers // 2, batch) if scan_layers else (batch,)

    def buffers() -> tuple[jax.Array, ...]:
        K, H = config.num_key_value_heads, config.head_dim
        return tuple(jnp.zeros((*leading, slots or max_length, K, H), dtype) for slots in windows)

    return KVCache(
        keys=buffers(),
        values=buffers(),
        lengths=jnp.zeros(batch, jnp.int32),
        windows=windows,
        max_length=max_length,
        scan_layers=scan_layers,
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
