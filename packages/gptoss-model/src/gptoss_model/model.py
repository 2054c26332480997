"""GptOss: the whole model, from token ids to logits."""

import dataclasses
import functools
from collections.abc import Collection

import jax
import jax.numpy as jnp
from flax import nnx
from gptoss_weights import GptOssConfig, rope_concentration, tensor_specs
from jax.typing import DTypeLike

from gptoss_model import ops
from gptoss_model.checks import check_mask, check_tokens
from gptoss_model.decoder import Decoder, LayerStep, RematPolicy
from gptoss_model.kv_cache import KVCache, init_cache, token_positions
from gptoss_model.layers import Linear, Rotary
from gptoss_model.ops.moe import check_moe_strategy
from gptoss_model.parameters import ParameterScope, ParameterSource
from gptoss_model.probing import ProbeRecorder, check_probes

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
        capacity_factor: Refused, unless None: no strategy drops a token.
        scan_layers: Whether the layers are a compiled loop over pairs, with stacked parameters, so
            that compile time does not grow with depth.

    Raises:
        ValueError: no such strategy, a capacity factor, the source gives a wrong shape, or an odd
            number of layers is to be scanned.
        MissingDependencyError: this machine cannot run the strategy.
    """

    def __init__(
        self,
        config: GptOssConfig,
        source: ParameterSource,
        *,
        dtype: DTypeLike | None = None,
        moe: str = "auto",
        capacity_factor: float | None = None,
        scan_layers: bool = False,
    ) -> None:
        moe = check_moe_strategy(moe, capacity_factor=capacity_factor)
        parameters = ParameterScope(tensor_specs(config), source)
        self.config = config
        self.scan_layers = scan_layers
        self.model = Decoder(parameters / "model", config, dtype=dtype, moe=moe, scan_layers=scan_layers)
        self.lm_head = Linear(parameters / "lm_head", has_bias=False)

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of the activations."""
        return jnp.dtype(self.model.embed_tokens.dtype)

    def init_cache(self, batch: int, max_length: int) -> KVCache:
        """An empty cache for `batch` sequences of at most `max_length` tokens, prompt and answer together.

        Raises:
            ValueError: a size is not positive.
        """
        return init_cache(self.config, batch, max_length, self.dtype, scan_layers=self.scan_layers)

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
        output: ForwardOutput = _forward(self, jnp.asarray(tokens, jnp.int32), mask, check_probes(probes, self.config))
        return output

    def forward(
        self,
        tokens: jax.Array,
        mask: jax.Array,
        probes: Collection[str] = (),
        *,
        remat: RematPolicy | None = None,
    ) -> ForwardOutput:
        """The forward pass itself, neither checked nor compiled; see `__call__`.

        Args:
            tokens: int32 [B, T].
            mask: bool [B, T].
            probes: Names of intermediates to return.
            remat: What a gradient may keep of each layer instead of computing it again, such as
                `jax.checkpoint_policies.nothing_saveable`; None: everything.
        """
        record = ProbeRecorder(probes)
        record("tokens", tokens)
        x, _ = self._run_layers(tokens, mask, token_positions(mask), None, record, remat)
        logits = self.unembed(x, record)
        return ForwardOutput(logits=logits, probes=record.values)

    def extend(
        self, tokens: jax.Array, mask: jax.Array, cache: KVCache, record: ProbeRecorder
    ) -> tuple[jax.Array, KVCache]:
        """The residual stream of new tokens after the last layer, [B, T, D], and the cache with them.

        Raises:
            ValueError: the cache was made for a model with another `scan_layers`.
        """
        if cache.scan_layers != self.scan_layers:
            raise ValueError(
                f"the model has scan_layers={self.scan_layers}, the cache {cache.scan_layers}; "
                "make the cache with the model's init_cache"
            )
        x, after = self._run_layers(tokens, mask, token_positions(mask, cache.lengths), cache, record)
        assert after is not None
        return x, after.advance(mask)

    def _run_layers(
        self,
        tokens: jax.Array,
        mask: jax.Array,
        positions: jax.Array,
        cache: KVCache | None,
        record: ProbeRecorder,
        remat: RematPolicy | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        x = self.model.embed_tokens(jnp.where(mask, tokens, 0))
        record("embedding", x)
        return self.model.layers(x, LayerStep(self._rotary(positions), positions, remat), cache, record)

    def unembed(self, x: jax.Array, record: ProbeRecorder) -> jax.Array:
        """Logits [..., V] from the residual stream [..., D]."""
        x = self.model.norm(x)
        record("final_norm", x)
        logits = self.lm_head(x)
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
