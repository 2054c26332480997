"""GptOss: the whole model, from token ids to logits."""

import dataclasses
import functools
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from gptoss_weights import GptOssConfig, rope_concentration, tensor_specs
from jax.typing import DTypeLike

from gptoss_model import ops
from gptoss_model.checks import check_mask, check_tokens
from gptoss_model.decoder import Decoder, LayerStep, RematPolicy
from gptoss_model.kv_cache import KVCache, init_cache, token_positions
from gptoss_model.layers import Linear, Places, Rotary
from gptoss_model.ops.attention import check_attention_strategy
from gptoss_model.ops.moe import check_moe_strategy
from gptoss_model.parameters import ParameterScope, ParameterSource
from gptoss_model.probing import ProbeRecorder, check_probes
from gptoss_model.sharding.placement import Placement, partitions_of
from gptoss_model.sharding.shards import ALONE, Shards

__all__ = ["ForwardOutput", "GptOss"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ForwardOutput:
    """What a forward pass gives.

    Attributes:
        logits: [B, T, V], in the dtype of the activations.
        probes: The probes that were asked for, by name (`gptoss_weights.probes`), each with a leading B.
    """

    logits: jax.Array
    probes: dict[str, jax.Array]


class GptOss(nnx.Module):
    """The GPT-OSS language model.

    It is built from a source of parameters (`gptoss_model.load_model` builds it from a checkpoint).
    Calling it runs a compiled forward pass; inside a transformation of your own (`jax.grad`,
    `jax.jit`) call it all the same, or `forward`.

    Args:
        config: The geometry.
        source: Gives the value of each parameter.
        dtype: Of the activations; None: that of the embedding.
        moe: Name of a MoE strategy (`gptoss_model.ops.moe`), or `auto`.
        attention: Name of an attention strategy (`gptoss_model.ops.attention`), or `auto`.
        capacity_factor: Refused, unless None: no strategy drops a token.
        scan_layers: Whether the layers are a compiled loop over pairs, with stacked parameters, so
            that compile time does not grow with depth.
        one_stack: With `scan_layers`, whether the loop goes over single layers instead, all in one stack: half as much
            to compile, and any number of layers, but there is no cache.
        placement: The mesh that the source puts the parameters on; None: they are on one device.

    Raises:
        ValueError: no such strategy, a capacity factor, the source gives a wrong shape, or an odd
            number of layers is to be scanned in pairs.
        MissingDependencyError: this machine cannot run a strategy.
    """

    def __init__(
        self,
        config: GptOssConfig,
        source: ParameterSource,
        *,
        dtype: DTypeLike | None = None,
        moe: str = "auto",
        attention: str = "auto",
        capacity_factor: float | None = None,
        scan_layers: bool = False,
        one_stack: bool = False,
        placement: Placement | None = None,
    ) -> None:
        check_moe_strategy(moe, capacity_factor=capacity_factor)
        check_attention_strategy(attention)
        partitioning = None if placement is None else placement.partitioning
        parameters = ParameterScope(tensor_specs(config), source, partitioning=partitioning)
        self.config = config
        self.scan_layers, self.one_stack = scan_layers, scan_layers and one_stack
        self.placement = placement
        self.model = Decoder(
            parameters / "model",
            config,
            dtype=dtype,
            moe=moe,
            attention=attention,
            scan_layers=scan_layers,
            one_stack=one_stack,
        )
        self.lm_head = Linear(parameters / "lm_head", has_bias=False)

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of the activations."""
        return jnp.dtype(self.model.embed_tokens.dtype)

    def init_cache(self, batch: int, max_length: int) -> KVCache:
        """An empty cache for `batch` sequences of at most `max_length` tokens, prompt and answer together.

        Raises:
            ValueError: a size is not positive, or the model has `one_stack`.
        """
        if self.one_stack:
            raise ValueError("a model with one_stack has no cache; load it without, to generate")
        make = functools.partial(init_cache, self.config, batch, max_length, self.dtype, scan_layers=self.scan_layers)
        if self.placement is None:
            return make()
        shapes: KVCache = jax.eval_shape(make)
        return self.placement.zeros(shapes, self.placement.shards(batch).cache_partitions(shapes))

    def __call__(
        self, tokens: jax.Array, *, mask: jax.Array | None = None, probes: Collection[str] = ()
    ) -> ForwardOutput:
        """Logits of every token, compiled once for each shape and set of probes.

        Args:
            tokens: Ids, integers [B, T].
            mask: True for real tokens, bool [B, T]; padding may stand anywhere, is seen by no real
                token, and its own rows mean nothing. None: all are real.
            probes: Names of intermediates to return.

        Raises:
            ValueError: a shape, a dtype, a token id or a probe name is wrong.
        """
        mask = check_mask(mask, check_tokens(tokens, mask, vocab_size=self.config.vocab_size))
        probes = check_probes(probes, self.config, is_sharded=self.placement is not None)
        output: ForwardOutput = _forward(self, jnp.asarray(tokens, jnp.int32), mask, probes)
        return output

    def forward(
        self,
        tokens: jax.Array,
        mask: jax.Array,
        probes: Collection[str] = (),
        *,
        positions: jax.Array | None = None,
        segments: jax.Array | None = None,
        remat: RematPolicy | None = None,
    ) -> ForwardOutput:
        """The forward pass itself, neither checked nor compiled; see `__call__`.

        Inside `jax.jit` what is not used costs nothing: who takes the probe `final_norm` alone computes
        no logits.

        Args:
            tokens: int32 [B, T].
            mask: bool [B, T].
            probes: Names of intermediates to return.
            positions: What RoPE turns each token by, and what the window counts, int32 [B, T]; None:
                the place of each real token among those of its row.
            segments: Which document of a packed row each token belongs to, int32 [B, T], positive for
                real tokens; they see those of their own only. None: each row is one document.
            remat: What a gradient may keep of each layer instead of computing it again, such as
                `jax.checkpoint_policies.nothing_saveable`; None: what its parts keep.
        """

        def part(model: GptOss, tokens: jax.Array, places: Places, shards: Shards) -> ForwardOutput:
            record = ProbeRecorder(probes)
            record("tokens", tokens)
            x, _ = model._run_layers(tokens, places, None, record, shards, remat)
            logits = model._unembed(x, record, shards)
            return ForwardOutput(logits=logits, probes=record.values)

        at = token_positions(mask) if positions is None else jnp.where(mask, positions, -1)
        places = Places(at, segments)
        if self.placement is None:
            return part(self, tokens, places, ALONE)
        shards = self.placement.shards(len(tokens))
        rows, logits = shards.rows(), shards.logits(axes=3)
        probed = {name: logits if name == "logits" else rows for name in probes}
        fields: dict[str, Any] = {"logits": logits, "probes": probed}
        results = ForwardOutput(**fields)
        run = self.placement.run(functools.partial(part, shards=shards), (partitions_of(self), rows, rows), results)
        return run(self, tokens, places)

    def extend(self, tokens: jax.Array, mask: jax.Array, cache: KVCache) -> tuple[jax.Array, KVCache]:
        """The residual stream of new tokens after the last layer, [B, T, D], and the cache with them.

        Raises:
            ValueError: the cache was made for a model of another geometry or dtype, or with another `scan_layers`.
        """
        if cache.scan_layers != self.scan_layers:
            raise ValueError(
                f"the model has scan_layers={self.scan_layers}, the cache {cache.scan_layers}; "
                "make the cache with the model's init_cache"
            )
        cache.check(self.config, self.dtype)

        def part(
            model: GptOss, tokens: jax.Array, mask: jax.Array, cache: KVCache, shards: Shards
        ) -> tuple[jax.Array, KVCache]:
            positions = token_positions(mask, cache.lengths)
            x, after = model._run_layers(tokens, Places(positions), cache, ProbeRecorder(()), shards)
            assert after is not None
            return x, after.advance(mask)

        if self.placement is None:
            return part(self, tokens, mask, cache, ALONE)
        shards = self.placement.shards(len(tokens))
        rows, caches = shards.rows(), shards.cache_partitions(cache)
        partitions = (partitions_of(self), rows, rows, caches)
        run = self.placement.run(functools.partial(part, shards=shards), partitions, (rows, caches))
        return run(self, tokens, mask, cache)

    def unembed(self, x: jax.Array) -> jax.Array:
        """Logits [B, ..., V] from the residual stream [B, ..., D]."""

        def part(model: GptOss, x: jax.Array, shards: Shards) -> jax.Array:
            return model._unembed(x, ProbeRecorder(()), shards)

        if self.placement is None:
            return part(self, x, ALONE)
        shards = self.placement.shards(len(x))
        run = self.placement.run(
            functools.partial(part, shards=shards), (partitions_of(self), shards.rows()), shards.logits(axes=x.ndim)
        )
        return run(self, x)

    def _run_layers(
        self,
        tokens: jax.Array,
        places: Places,
        cache: KVCache | None,
        record: ProbeRecorder,
        shards: Shards,
        remat: RematPolicy | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        x = self.model.embed_tokens(jnp.where(places.positions >= 0, tokens, 0), shards)
        record("embedding", x)
        step = LayerStep(self._rotary(places.positions), places, shards, remat)
        return self.model.layers(x, step, cache, record)

    def _unembed(self, x: jax.Array, record: ProbeRecorder, shards: Shards) -> jax.Array:
        x = self.model.norm(x)
        record("final_norm", x)
        logits = shards.gathered(self.lm_head)(x)
        record("logits", logits)
        return logits

    def _rotary(self, positions: jax.Array) -> Rotary:
        config = self.config
        frequencies = config.inverse_frequencies()
        cos, sin = ops.rope_cos_sin(
            positions,
            jnp.asarray(frequencies),
            concentration=rope_concentration(config.rope_scaling_factor),
            dtype=self.dtype,
        )
        return Rotary(cos, sin)


@functools.partial(jax.jit, static_argnames=("probes",))
def _forward(model: GptOss, tokens: jax.Array, mask: jax.Array, probes: tuple[str, ...]) -> ForwardOutput:
    return model.forward(tokens, mask, probes)
