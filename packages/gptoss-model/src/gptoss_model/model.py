"""GptOss: the whole model, from token ids to logits."""

import dataclasses
import functools
from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from gptoss_weights import GptOssConfig, rope_concentration, tensor_specs

from gptoss_model import ops
from gptoss_model.checks import check_mask, check_tokens
from gptoss_model.kv_cache import KVCache, LayerCache, token_positions
from gptoss_model.layers import DecoderLayer, Embedding, Linear, RMSNorm, Rotary
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


class Decoder(nnx.Module):
    """Embedding, layers and last norm: what Hugging Face's names call `model`."""

    def __init__(self, parameters: ParameterScope, config: GptOssConfig, *, moe: str) -> None:
        self.embed_tokens = Embedding(parameters / "embed_tokens")
        self.layers = nnx.List(
            DecoderLayer(
                parameters / "layers" / layer,
                config,
                window=config.sliding_window if config.is_sliding(layer) else None,
                moe=moe,
            )
            for layer in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(parameters / "norm")


class GptOss(nnx.Module):
    """The GPT-OSS language model.

    It is built from a source of parameters (`gptoss_model.load_model` builds it from a checkpoint);
    the activations have the dtype of the embedding. Calling it runs a compiled forward pass; inside
    a transformation of your own (`jax.grad`, `jax.jit`) call it all the same, or `forward`.

    Args:
        config: The geometry.
        source: Gives the value of each parameter.
        moe: Name of a MoE strategy (`gptoss_model.ops.moe`), or `auto`.
        capacity_factor: Refused, unless None: no strategy drops a token.

    Raises:
        ValueError: no such strategy, a capacity factor, or the source gives a wrong shape.
        MissingDependencyError: this machine cannot run the strategy.
    """

    def __init__(
        self,
        config: GptOssConfig,
        source: ParameterSource,
        *,
        moe: str = "auto",
        capacity_factor: float | None = None,
    ) -> None:
        moe = check_moe_strategy(moe, capacity_factor=capacity_factor)
        parameters = ParameterScope(tensor_specs(config), source)
        self.config = config
        self.model = Decoder(parameters / "model", config, moe=moe)
        self.lm_head = Linear(parameters / "lm_head", has_bias=False)

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of the activations."""
        return jnp.dtype(self.model.embed_tokens.weight[...].dtype)

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

    def forward(self, tokens: jax.Array, mask: jax.Array, probes: Collection[str] = ()) -> ForwardOutput:
        """The forward pass itself, neither checked nor compiled; see `__call__`."""
        record = ProbeRecorder(probes)
        record("tokens", tokens)
        x, _ = self._layers(tokens, mask, token_positions(mask), [None] * len(self.model.layers), record)
        logits = self.unembed(x, record)
        return ForwardOutput(logits=logits, probes=record.values)

    def extend(
        self, tokens: jax.Array, mask: jax.Array, cache: KVCache, record: ProbeRecorder
    ) -> tuple[jax.Array, KVCache]:
        """The residual stream of new tokens after the last layer, [B, T, D], and the cache with them."""
        past = [cache.layer(index) for index in range(len(self.model.layers))]
        x, written = self._layers(tokens, mask, token_positions(mask, cache.lengths), past, record)
        return x, cache.advance(written, mask)

    def _layers[C: (LayerCache, None)](
        self, tokens: jax.Array, mask: jax.Array, positions: jax.Array, caches: Sequence[C], record: ProbeRecorder
    ) -> tuple[jax.Array, list[C]]:
        rotary = self._rotary(positions)
        x = self.model.embed_tokens(jnp.where(mask, tokens, 0))
        record("embedding", x)
        written: list[C] = []
        for index, (layer, cache) in enumerate(zip(self.model.layers, caches, strict=True)):
            x, after = layer(x, rotary, positions, cache, record.layer(index))
            written.append(after)
        return x, written

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
