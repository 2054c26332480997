"""The layers one after the other: each by itself, or as a compiled loop over pairs of them, or over all.

GPT-OSS alternates sliding and full layers, so its period is a pair. Unscanned, every layer is traced
and compiled by itself, and compile time grows with depth. Scanned, the parameters of all even layers
are stacked, and so are those of the odd ones (`gptoss_model.parameters`); `jax.lax.scan` goes over
the pairs, and one pair is all that is compiled. For training one stack of all layers will do, whose
window is an argument: then one layer is all that is compiled, and every parameter of the state, its
gradient and its moments are one array where they were two.

What a turn of the loop does not need must not be moved, and what it needs only once. XLA writes a
slice of a stack out before an inner loop or a product may read from it, which for the experts would
copy all of a layer's to use four, and every other matrix of a decoding step. With a cache, all
matrices therefore stay whole, as `StackedMatrices`, and the ops read what they need where it stands.
Where gradients may be wanted (a pass without a cache), matrices are sliced like all else: the
gradient of a slice is a slice, that of a whole would be as large as the stack in every turn. Packed
experts have no gradient and stay whole.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from gptoss_weights import GptOssConfig
from jax import lax
from jax.typing import DTypeLike

from gptoss_model.kv_cache import KVCache
from gptoss_model.layers import DecoderLayer, Embedding, Places, RMSNorm, Rotary
from gptoss_model.ops.stacked import StackedMatrices
from gptoss_model.parameters import LAYER_PAIR, PackedParam, ParameterScope
from gptoss_model.probing import ProbeRecorder
from gptoss_model.sharding.shards import Shards

__all__ = ["Decoder", "LayerPairs", "LayerStack", "LayerStep", "RematPolicy"]

type RematPolicy = Callable[..., bool]  # see `jax.checkpoint_policies`
type Probes = dict[str, jax.Array]
type State = nnx.State[Any, Any]
type Stream = tuple[jax.Array, KVCache | None]  # the residual stream, and the cache

MATRICES = ("weight", "gate_up_proj", "down_proj")  # last elements of their paths
PERIOD = len(LAYER_PAIR)
UNLIMITED = 2**30  # a window that no position leaves


@dataclasses.dataclass(frozen=True)
class LayerStep:
    """What all layers of a forward pass share.

    Attributes:
        rotary: Cosines and sines of the positions.
        places: Where the tokens stand.
        shards: What this device has of the step.
        remat: What the gradient may keep of a layer instead of computing it again; None: what its parts keep.
    """

    rotary: Rotary
    places: Places
    shards: Shards
    remat: RematPolicy | None = None

    def run(
        self,
        layer: DecoderLayer,
        x: jax.Array,
        cache: KVCache | None,
        number: int,
        row: jax.Array | None,
        wanted: Collection[str],
    ) -> tuple[jax.Array, KVCache | None, Probes]:
        """The residual stream after a layer, the cache with what it wrote, and the wanted ones of its probes.

        Args:
            layer: The layer.
            x: The residual stream before it.
            cache: Keys and values of earlier tokens, if there are any to see.
            number: Which buffers of the cache are the layer's, or hold it in a stack.
            row: Its place in the stack.
            wanted: Names of probes inside a layer.
        """

        def run(layer: DecoderLayer, x: jax.Array) -> tuple[jax.Array, KVCache | None, Probes]:
            record, shards = ProbeRecorder(wanted), self.shards
            layer = shards.gathered(layer)  # inside what `remat` repeats, so that no layer stays whole
            if cache is None:
                x, _ = layer(x, self.rotary, self.places, None, record, shards)
                return x, None, record.values
            x, part = layer(x, self.rotary, self.places, cache.part(number, row), record, shards)
            return x, cache.with_part(number, part), record.values

        if self.remat is not None:
            run = jax.checkpoint(run, policy=self.remat)
        return run(layer, x)


class LayerPairs(nnx.Module):
    """All layers as two stacks: 0, 2, 4, … in `even` and 1, 3, 5, … in `odd`.

    Raises:
        ValueError: the number of layers is odd.
    """

    def __init__(self, parameters: ParameterScope, config: GptOssConfig, *, moe: str, attention: str) -> None:
        layers = config.num_hidden_layers
        if layers % PERIOD:
            raise ValueError(
                f"scan_layers goes over pairs of a sliding and a full layer, but {layers} is an odd number of layers: "
                f"{layers // PERIOD} × {PERIOD} + 1; do without scan_layers (--no-scan-layers)"
            )
        self.even, self.odd = (
            DecoderLayer(
                parameters.stack(range(first, layers, PERIOD)),
                config,
                window=_window(config, first),
                moe=moe,
                attention=attention,
            )
            for first in range(PERIOD)
        )

    def __call__(
        self, x: jax.Array, step: LayerStep, cache: KVCache | None, record: ProbeRecorder
    ) -> tuple[jax.Array, KVCache | None]:
        """The residual stream after the last layer, and the cache with the buffers that the layers have written."""
        split: Any = nnx.split(self, _stays_whole(is_inference=cache is not None), ...)
        graph, whole, sliced = split
        [count] = {leaf.shape[0] for leaf in jax.tree.leaves(sliced)}
        layers = [range(first, count * PERIOD, PERIOD) for first in range(PERIOD)]
        wanted = [record.within(numbers) for numbers in layers]

        def turn(carry: Stream, row: tuple[jax.Array, State]) -> tuple[Stream, list[Probes]]:
            x, cache = carry
            index, state = row
            pair = nnx.merge(graph, _entries(whole, index), state)
            probes = []
            for number, layer in enumerate((pair.even, pair.odd)):
                x, cache, values = step.run(layer, x, cache, number, index, wanted[number])
                probes.append(values)
            return (x, cache), probes

        (x, cache), stacked = lax.scan(turn, (x, cache), (jnp.arange(count, dtype=jnp.int32), sliced))
        for numbers, values in zip(layers, stacked, strict=True):
            for row, layer in enumerate(numbers):
                record.layer(layer, {name: value[row] for name, value in values.items()})
        return x, cache


class LayerStack(nnx.Module):
    """All layers as one stack. It has no cache, for the layers' buffers differ in length: it is for training."""

    def __init__(self, parameters: ParameterScope, config: GptOssConfig, *, moe: str, attention: str) -> None:
        layers = range(config.num_hidden_layers)
        self.every = DecoderLayer(
            parameters.stack(layers), config, window=config.sliding_window, moe=moe, attention=attention
        )
        self.windows = tuple(_window(config, layer) or UNLIMITED for layer in layers)

    def __call__(
        self, x: jax.Array, step: LayerStep, cache: KVCache | None, record: ProbeRecorder
    ) -> tuple[jax.Array, KVCache | None]:
        """The residual stream after the last layer.

        Raises:
            ValueError: there is a cache.
        """
        if cache is not None:
            raise ValueError("a model with one_stack has no cache; load it without to generate")
        split: Any = nnx.split(self.every, _stays_whole(is_inference=False), ...)
        graph, whole, sliced = split
        layers = range(len(self.windows))
        wanted = record.within(layers)

        def turn(x: jax.Array, row: tuple[jax.Array, jax.Array, State]) -> tuple[jax.Array, Probes]:
            index, window, state = row
            layer = nnx.merge(graph, _entries(whole, index), state)
            here = dataclasses.replace(step, places=step.places._replace(window=window))
            x, _, values = here.run(layer, x, None, 0, index, wanted)
            return x, values

        rows = jnp.arange(len(layers), dtype=jnp.int32), jnp.array(self.windows, jnp.int32), sliced
        x, stacked = lax.scan(turn, x, rows)
        for layer in layers:
            record.layer(layer, {name: value[layer] for name, value in stacked.items()})
        return x, None


class Layers(nnx.List[DecoderLayer]):
    """All layers, each traced and compiled by itself."""

    def __init__(self, parameters: ParameterScope, config: GptOssConfig, *, moe: str, attention: str) -> None:
        super().__init__(
            DecoderLayer(parameters / layer, config, window=_window(config, layer), moe=moe, attention=attention)
            for layer in range(config.num_hidden_layers)
        )

    def __call__(
        self, x: jax.Array, step: LayerStep, cache: KVCache | None, record: ProbeRecorder
    ) -> tuple[jax.Array, KVCache | None]:
        """The residual stream after the last layer, and the cache with the buffers that the layers have written."""
        for number, layer in enumerate(self):
            x, cache, values = step.run(layer, x, cache, number, None, record.within([number]))
            record.layer(number, values)
        return x, cache


class Decoder(nnx.Module):
    """Embedding, layers and last norm: what Hugging Face's names call `model`.

    Args:
        parameters: The scope of the names that begin with `model.`.
        config: The geometry.
        dtype: Of the activations; None: that of the embedding.
        moe: Name of a MoE strategy.
        attention: Name of an attention strategy.
        scan_layers: Whether the layers are a compiled loop over pairs.
        one_stack: Whether that loop goes over single layers instead.

    Raises:
        ValueError: `scan_layers`, and the number of layers is odd.
    """

    def __init__(
        self,
        parameters: ParameterScope,
        config: GptOssConfig,
        *,
        dtype: DTypeLike | None,
        moe: str,
        attention: str,
        scan_layers: bool,
        one_stack: bool = False,
    ) -> None:
        self.embed_tokens = Embedding(parameters / "embed_tokens", dtype=dtype)
        layers = (LayerStack if one_stack else LayerPairs) if scan_layers else Layers
        self.layers = layers(parameters / "layers", config, moe=moe, attention=attention)
        self.norm = RMSNorm(parameters / "norm")


def _window(config: GptOssConfig, layer: int) -> int | None:
    return config.sliding_window if config.is_sliding(layer) else None


def _stays_whole(*, is_inference: bool) -> Callable[[tuple[object, ...], object], bool]:
    """Selects the parameters that the loop reads in place: they have no gradient, or none is wanted."""

    def selects(path: tuple[object, ...], variable: object) -> bool:
        is_matrix = path[-1] in MATRICES and "layernorm" not in str(path[-2])
        return isinstance(variable, PackedParam) or (is_inference and is_matrix)

    return selects


def _entries(whole: State, index: jax.Array) -> State:
    """The stacks as what one layer has of them, without slicing them."""
    entries = [
        (path, variable.replace(StackedMatrices(variable.get_value(), index)))
        for path, variable in nnx.to_flat_state(whole)
    ]
    return nnx.from_flat_state(entries)
