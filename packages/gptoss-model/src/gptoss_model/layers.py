"""The modules: they hold parameters under Hugging Face's names and call the ops.

What flows between them: x [B, T, D], the residual stream in the dtype of the activations; the places
of the tokens; and the cosines and sines of their positions.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from gptoss_weights import RMS_NORM_EPS, SWIGLU_ALPHA, GptOssConfig
from jax import lax
from jax.typing import DTypeLike

from gptoss_model import ops
from gptoss_model.kv_cache import KeyValues, LayerCache
from gptoss_model.ops.attention import ATTENTION_KERNELS, ATTENTION_STRATEGIES, choose_attention_strategy
from gptoss_model.ops.low_rank import LowRank
from gptoss_model.ops.moe import MOE_STRATEGIES, ExpertWeights, choose_moe_strategy, inspect_experts
from gptoss_model.ops.stacked import StackedMatrices
from gptoss_model.parameters import LoraParam, PackedParam, ParameterScope, unpack_value
from gptoss_model.probing import EXPERT_PROBES, ProbeRecorder
from gptoss_model.sharding.shards import Shards

__all__ = [
    "Attention",
    "DecoderLayer",
    "Embedding",
    "Experts",
    "Linear",
    "LoraFactors",
    "Mlp",
    "Places",
    "RMSNorm",
    "Rotary",
    "Router",
]


NOBODY = -1  # the expert of padding


class Rotary(NamedTuple):
    """Cosine and sine of the positions of a step, each [B, T, H/2]."""

    cos: jax.Array
    sin: jax.Array


class Places(NamedTuple):
    """Where the tokens of a step stand.

    Attributes:
        positions: int32 [B, T], −1 for padding.
        segments: Which document of its row each token belongs to, int32 [B, T]; None: each row is one.
        window: How many keys a token sees, int32 [], where layers share their code: the layer's own window, or one that
            no position leaves; None: what the layer says.
    """

    positions: jax.Array
    segments: jax.Array | None = None
    window: jax.Array | None = None


class LoraFactors(nnx.Module):
    """The update `scale`·b·a of a matrix, or of every expert's; see `gptoss_model.lora`."""

    def __init__(self, a: LoraParam, b: LoraParam, *, scale: float) -> None:
        self.a, self.b, self.scale = a, b, scale


class Linear(nnx.Module):
    """`x · weightᵀ`, and a bias where the schema has one; weight [out, in]."""

    def __init__(self, parameters: ParameterScope, *, has_bias: bool = True) -> None:
        self.weight = parameters("weight")
        self.bias = parameters("bias") if has_bias else None
        self.lora: LoraFactors | None = nnx.data(None)

    def __call__(self, x: jax.Array, *, total: Callable[[jax.Array], jax.Array] | None = None) -> jax.Array:
        """Maps [..., in] to [..., out]; `total` as in `ops.linear`."""
        bias = None if self.bias is None else _cast(self.bias, x)
        return ops.linear(x, _matrix(self.weight), bias, total=total, update=_update(self.lora))


class Embedding(nnx.Module):
    """One row of [V, D] a token, in the dtype of the activations; None: as it is."""

    def __init__(self, parameters: ParameterScope, *, dtype: DTypeLike | None) -> None:
        self.weight = parameters("weight")
        self.dtype = self.weight[...].dtype if dtype is None else jnp.dtype(dtype)

    def __call__(self, tokens: jax.Array, shards: Shards) -> jax.Array:
        """Maps ids [B, T] to [B, T, D]."""
        return ops.rounded(shards.look_up(self.weight[...], tokens), self.dtype)


class RMSNorm(nnx.Module):
    """RMSNorm with a scale [D] in f32."""

    def __init__(self, parameters: ParameterScope) -> None:
        self.weight = parameters("weight")

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the last axis."""
        return ops.rms_norm(x, self.weight[...], eps=RMS_NORM_EPS)


class Attention(nnx.Module):
    """Grouped-query attention with rotary positions and one sink a query head."""

    def __init__(self, parameters: ParameterScope, config: GptOssConfig, *, window: int | None, attention: str) -> None:
        self.q_proj = Linear(parameters / "q_proj")
        self.k_proj = Linear(parameters / "k_proj")
        self.v_proj = Linear(parameters / "v_proj")
        self.o_proj = Linear(parameters / "o_proj")
        self.sinks = parameters("sinks")
        self.head_dim = config.head_dim
        self.window = window
        self.attention = attention

    def __call__[C: (LayerCache, None)](
        self, x: jax.Array, rotary: Rotary, places: Places, cache: C, record: ProbeRecorder, shards: Shards
    ) -> tuple[jax.Array, C]:
        """Attends over the new tokens, and over those in the cache if there is one."""
        B, T, _ = x.shape
        rows = _rows(x)

        def heads(projected: jax.Array) -> jax.Array:
            return projected.reshape(B, T, -1, self.head_dim)

        q = ops.apply_rope(heads(self.q_proj(rows)), *rotary)
        k = ops.apply_rope(heads(self.k_proj(rows)), *rotary)
        v = heads(self.v_proj(rows))
        record("query", q)
        record("key", k)
        record("value", v)
        if cache is None:
            seen = KeyValues(k, v, places.positions)
        else:
            seen, cache = cache.extend(k, v, places.positions)
        choice = choose_attention_strategy(self.attention, queries=q.shape[1], keys=seen.keys.shape[1])
        attend = functools.partial(
            ATTENTION_STRATEGIES[choice.name],
            q,
            seen.keys,
            seen.values,
            _cast(self.sinks, q),
            query_positions=places.positions,
            key_positions=seen.positions,
            segments=places.segments,
        )
        if places.window is None:
            mixed = attend(window=self.window)
        elif choice.name in ATTENTION_KERNELS:
            mixed = lax.cond(
                places.window == self.window, lambda: attend(window=self.window), lambda: attend(window=None)
            )
        else:
            mixed = attend(window=places.window)

        # The backward pass keeps what the strategy keeps, and not a second array for its other shape.
        @functools.partial(jax.checkpoint, prevent_cse=False)
        def project(mixed: jax.Array) -> jax.Array:
            return self.o_proj(mixed.reshape(B * T, -1), total=shards.sum_heads)

        attended = project(mixed).reshape(x.shape)
        record("attention_output", attended)
        return attended, cache


class Router(nnx.Module):
    """One logit an expert, from [E, D] and [E]."""

    def __init__(self, parameters: ParameterScope, config: GptOssConfig) -> None:
        self.weight = parameters("weight")
        self.bias = parameters("bias")
        self.experts_per_token = config.experts_per_token

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Of tokens [M, D] logits [M, E], indices of the chosen [M, k], best first, and their weights [M, k]."""
        logits = ops.linear(x, _matrix(self.weight), _cast(self.bias, x))
        return logits, *ops.route_tokens(logits, experts_per_token=self.experts_per_token)


class Experts(nnx.Module):
    """All experts of a layer, packed as MXFP4 or decoded, and the strategy that runs the chosen ones."""

    def __init__(self, parameters: ParameterScope, config: GptOssConfig, *, moe: str) -> None:
        self.gate_up_proj = parameters("gate_up_proj")
        self.gate_up_proj_bias = parameters("gate_up_proj_bias")
        self.down_proj = parameters("down_proj")
        self.down_proj_bias = parameters("down_proj_bias")
        self.gate_up_lora: LoraFactors | None = nnx.data(None)
        self.down_lora: LoraFactors | None = nnx.data(None)
        self.swiglu_limit = config.swiglu_limit
        self.moe = moe

    def __call__(self, x: jax.Array, chosen: jax.Array, weights: jax.Array, shards: Shards) -> jax.Array:
        """The weighted sum of the chosen experts [M, k] of each token [M, D]."""
        return shards.run_experts(self._run, x, chosen, weights, self._weights(x))

    def inspect(self, x: jax.Array, chosen: jax.Array) -> Mapping[str, jax.Array]:
        """The probes of what happens inside the chosen experts, each [M, k, …]."""
        experts = self._weights(x)
        inside = inspect_experts(x, chosen, experts, swiglu_alpha=SWIGLU_ALPHA, swiglu_limit=self.swiglu_limit)
        return dict(zip(EXPERT_PROBES, inside, strict=True))

    def _weights(self, x: jax.Array) -> ExpertWeights:
        """As computing with x uses them."""
        return ExpertWeights(
            gate_up_proj=unpack_value(self.gate_up_proj),
            gate_up_proj_bias=_cast(self.gate_up_proj_bias, x),
            down_proj=unpack_value(self.down_proj),
            down_proj_bias=_cast(self.down_proj_bias, x),
            gate_up_update=_update(self.gate_up_lora),
            down_update=_update(self.down_lora),
        )

    def _run(self, x: jax.Array, indices: jax.Array, weights: jax.Array, experts: ExpertWeights) -> jax.Array:
        """One strategy on tokens [M, D] and the experts that are here."""
        is_packed = isinstance(self.gate_up_proj, PackedParam)
        choice = choose_moe_strategy(self.moe, tokens=x.shape[0], is_packed=is_packed)
        strategy = MOE_STRATEGIES[choice.name]
        return strategy(x, indices, weights, experts, swiglu_alpha=SWIGLU_ALPHA, swiglu_limit=self.swiglu_limit)


class Mlp(nnx.Module):
    """The router and its experts."""

    def __init__(self, parameters: ParameterScope, config: GptOssConfig, *, moe: str) -> None:
        self.router = Router(parameters / "router", config)
        self.experts = Experts(parameters / "experts", config, moe=moe)

    def __call__(self, x: jax.Array, is_real: jax.Array, record: ProbeRecorder, shards: Shards) -> jax.Array:
        """Routes every token to its experts; padding has none and becomes zeros."""
        rows = _rows(x)
        logits, indices, weights = self.router(rows)
        chosen = jnp.where(is_real.reshape(-1, 1), indices, NOBODY)
        output = self.experts(rows, chosen, weights, shards)
        probes = {"router_logits": logits, "router_indices": indices, "router_weights": weights}
        if record.wants_any(EXPERT_PROBES):
            probes |= self.experts.inspect(rows, chosen)
        for probe, value in (probes | {"combined_output": output}).items():
            record(probe, value.reshape(*is_real.shape, *value.shape[1:]))
        return output.reshape(x.shape)


class DecoderLayer(nnx.Module):
    """Attention and experts, each normalised before and added to the residual stream."""

    def __init__(
        self, parameters: ParameterScope, config: GptOssConfig, *, window: int | None, moe: str, attention: str
    ) -> None:
        self.input_layernorm = RMSNorm(parameters / "input_layernorm")
        self.self_attn = Attention(parameters / "self_attn", config, window=window, attention=attention)
        self.post_attention_layernorm = RMSNorm(parameters / "post_attention_layernorm")
        self.mlp = Mlp(parameters / "mlp", config, moe=moe)

    def __call__[C: (LayerCache, None)](
        self, x: jax.Array, rotary: Rotary, places: Places, cache: C, record: ProbeRecorder, shards: Shards
    ) -> tuple[jax.Array, C]:
        """The residual stream after the layer, and the layer's cache with the new tokens."""
        normed = self.input_layernorm(x)
        record("attention_norm", normed)
        attended, cache = self.self_attn(normed, rotary, places, cache, record, shards)
        x = ops.add_rounded(x, attended)
        record("attention_residual", x)
        normed = self.post_attention_layernorm(x)
        record("mlp_norm", normed)
        x = ops.add_rounded(x, self.mlp(normed, places.positions >= 0, record, shards))
        record("output", x)
        return x, cache


def _rows(x: jax.Array) -> jax.Array:
    """[B, T, D] as [M, D], once for all that multiply it: the backward pass keeps an array for each reshaping."""
    return x.reshape(-1, x.shape[-1])


def _cast(parameter: nnx.Param[jax.Array] | PackedParam, x: jax.Array) -> jax.Array:
    """The values as computing with x uses them: really rounded to its dtype, if they have more bits."""
    value: jax.Array = parameter[...]
    return ops.rounded(value, x.dtype)


def _update(lora: LoraFactors | None) -> LowRank | None:
    return None if lora is None else LowRank(lora.a[...], lora.b[...], lora.scale)


def _matrix(parameter: nnx.Param[jax.Array] | PackedParam) -> jax.Array | StackedMatrices:
    """A weight, or its place in the stack of all layers."""
    value: Any = parameter.get_value()
    matrix: jax.Array | StackedMatrices = value
    return matrix
