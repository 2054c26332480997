"""GPT-OSS in plain NumPy, float32: the forward pass on one page, a layer and an expert at a time.

It needs no framework and never holds more of the weights than one matrix, so it runs any checkpoint
anywhere, slowly. Each decision of the architecture is a method of its own: a subclass that overrides
one is a faulty implementation with exactly one fault, which is what the self-test is made of.

Source: openai/gpt-oss torch/model.py.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from gptoss_weights import (
    RMS_NORM_EPS,
    SWIGLU_ALPHA,
    Checkpoint,
    GptOssConfig,
    Mxfp4Tensor,
    layer_probe,
    rope_concentration,
)

__all__ = ["PlainModel"]

QUERIES_AT_ONCE = 256  # so that scores of a long prompt stay small

type Record = Callable[[str, np.ndarray], None]
type Expert = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class PlainModel:
    """Runs a checkpoint over one prompt.

    Args:
        checkpoint: Any; it is read while the model runs.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.config: GptOssConfig = checkpoint.config

    def forward(self, tokens: np.ndarray, record: Record, forced: Sequence[np.ndarray] | None = None) -> None:
        """Hands every probe of T tokens to `record`; `forced` holds one choice of experts [T, k] a layer."""
        x = self._embedded(tokens)
        record("embedding", x)
        for layer in range(self.config.num_hidden_layers):
            x = self._layer(x, layer, record, None if forced is None else forced[layer])
        x = self._normalized(x, "model.norm.weight")
        record("final_norm", x)
        record("logits", self._unembedded(x))

    # ------------------------------------------------------- the decisions that a fault can get wrong

    def query_positions(self, tokens: int) -> np.ndarray:
        """Positions of the queries, float32 [T]."""
        return np.arange(tokens, dtype=np.float32)

    def inverse_frequencies(self) -> np.ndarray:
        """Radians per position of each rotary pair, float32 [H/2]."""
        return self.config.inverse_frequencies()

    def concentration(self) -> float:
        """Factor on cosine and sine."""
        return rope_concentration(self.config.rope_scaling_factor)

    def sees(self, query: np.ndarray, key: np.ndarray, layer: int) -> np.ndarray:
        """Whether a query at a position sees a key at another; both broadcast."""
        seen: np.ndarray = key <= query
        return seen & (query - key < self.config.sliding_window) if self.config.is_sliding(layer) else seen

    def probabilities(self, scores: np.ndarray, sinks: np.ndarray) -> np.ndarray:
        """Softmax over scores [N, T, S] and one sink a head [N], which contributes no value."""
        largest = np.maximum(scores.max(axis=-1), sinks[:, None])[..., None]
        exponentials = np.exp(scores - largest)
        shares: np.ndarray = exponentials / (
            exponentials.sum(axis=-1, keepdims=True) + np.exp(sinks[:, None, None] - largest)
        )
        return shares

    def router_logits(self, x: np.ndarray, layer: int) -> np.ndarray:
        """Router logits [T, E] of the normalised residual stream."""
        return self._linear(x, f"model.layers.{layer}.mlp.router")

    def gate_weights(self, logits: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Softmax over the chosen experts' logits alone, [T, k]."""
        return _softmax(np.take_along_axis(logits, indices, axis=-1))

    def expert(self, layer: int, number: int) -> Expert:
        """One expert: gate_up_proj [2F, D] and its bias, down_proj [D, F] and its bias."""
        name = f"model.layers.{layer}.mlp.experts"
        parts = [self._read(f"{name}.{part}", number) for part in _EXPERT_PARTS]
        return parts[0], parts[1], parts[2], parts[3]

    def gate_and_up(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gate and up, which are interleaved."""
        return hidden[..., ::2], hidden[..., 1::2]

    def clamped(self, gate: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gate bounded from above, up on both sides."""
        limit = np.float32(self.config.swiglu_limit)
        return np.minimum(gate, limit), np.clip(up, -limit, limit)

    def activated(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        """SwiGLU of what was clamped."""
        result: np.ndarray = gate / (1 + np.exp(-np.float32(SWIGLU_ALPHA) * gate)) * (up + 1)
        return result

    # ------------------------------------------------------------------------------ the way between

    def _layer(self, x: np.ndarray, layer: int, record: Record, forced: np.ndarray | None) -> np.ndarray:
        def probe(name: str, value: np.ndarray) -> None:
            record(layer_probe(layer, name), value)

        name = f"model.layers.{layer}"
        normed = self._normalized(x, f"{name}.input_layernorm.weight")
        probe("attention_norm", normed)
        attended = self._attention(normed, layer, probe)
        probe("attention_output", attended)
        x = x + attended
        probe("attention_residual", x)
        normed = self._normalized(x, f"{name}.post_attention_layernorm.weight")
        probe("mlp_norm", normed)
        combined = self._experts(normed, layer, probe, forced)
        probe("combined_output", combined)
        x = x + combined
        probe("output", x)
        return x

    def _attention(self, x: np.ndarray, layer: int, probe: Record) -> np.ndarray:
        tokens, head_dim = len(x), self.config.head_dim
        name = f"model.layers.{layer}.self_attn"
        positions = np.arange(tokens, dtype=np.float32)
        q, k, v = (self._linear(x, f"{name}.{part}_proj").reshape(tokens, -1, head_dim) for part in "qkv")
        q, k = self._rotated(q, self.query_positions(tokens)), self._rotated(k, positions)
        for label, value in (("query", q), ("key", k), ("value", v)):
            probe(label, value)
        shared = q.shape[1] // k.shape[1]
        keys, values = (np.repeat(a, shared, axis=1).transpose(1, 0, 2) for a in (k, v))  # [N, S, H]
        sinks = self._read(f"{name}.sinks")
        mixed = np.empty_like(q)
        for start in range(0, tokens, QUERIES_AT_ONCE):
            block = slice(start, start + QUERIES_AT_ONCE)
            scores = q[block].transpose(1, 0, 2) @ keys.transpose(0, 2, 1) * np.float32(1 / math.sqrt(head_dim))
            seen = self.sees(positions[block, None], positions[None, :], layer)
            scores = np.where(seen, scores, -np.inf)
            mixed[block] = (self.probabilities(scores, sinks) @ values).transpose(1, 0, 2)
        return self._linear(mixed.reshape(tokens, -1), f"{name}.o_proj")

    def _experts(self, x: np.ndarray, layer: int, probe: Record, forced: np.ndarray | None) -> np.ndarray:
        config = self.config
        logits = self.router_logits(x, layer)
        indices = forced
        if indices is None:
            indices = np.argsort(-logits, axis=-1, kind="stable")[:, : config.experts_per_token]
        weights = self.gate_weights(logits, indices)
        for name, value in (("router_logits", logits), ("router_indices", indices), ("router_weights", weights)):
            probe(name, value)
        rows = (len(x), config.experts_per_token)
        hidden = np.empty((*rows, 2 * config.intermediate_size), np.float32)
        activated = np.empty((*rows, config.intermediate_size), np.float32)
        outputs = np.empty((*rows, config.hidden_size), np.float32)
        for number in np.unique(indices):
            gate_up_proj, gate_up_bias, down_proj, down_bias = self.expert(layer, int(number))
            chosen = indices == number
            hidden[chosen] = x[np.nonzero(chosen)[0]] @ gate_up_proj.T + gate_up_bias
            activated[chosen] = self.activated(*self.clamped(*self.gate_and_up(hidden[chosen])))
            outputs[chosen] = activated[chosen] @ down_proj.T + down_bias
        for name, value in (("pre_activation", hidden), ("activated", activated), ("expert_outputs", outputs)):
            probe(name, value)
        combined: np.ndarray = np.einsum("tkd,tk->td", outputs, weights)
        return combined

    def _rotated(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """RoPE on x [T, heads, H], halves against halves."""
        angles = (positions[:, None] * self.inverse_frequencies())[:, None]
        cos, sin = (function(angles) * np.float32(self.concentration()) for function in (np.cos, np.sin))
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def _normalized(self, x: np.ndarray, name: str) -> np.ndarray:
        scale = self._read(name)
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        normed: np.ndarray = x * (1 / np.sqrt(mean_square + np.float32(RMS_NORM_EPS))) * scale
        return normed

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        weight, bias = (self._read(f"{name}.{part}") for part in ("weight", "bias"))
        result: np.ndarray = x @ weight.T + bias
        return result

    def _embedded(self, tokens: np.ndarray) -> np.ndarray:
        """The tokens' rows of the embedding, and no others, float32 [T, D]."""
        return np.stack([self._read("model.embed_tokens.weight", int(token)) for token in tokens])

    def _unembedded(self, x: np.ndarray) -> np.ndarray:
        """Logits [T, V], some rows of the vocabulary at a time."""
        logits = np.empty((len(x), self.config.vocab_size), np.float32)
        for start, rows in self.checkpoint.pieces("lm_head.weight"):
            logits[:, start : start + rows.shape[0]] = x @ _as_array(rows).T
        return logits

    def _read(self, name: str, *index: int) -> np.ndarray:
        """A parameter or a row of it as float32, decoded if it is packed."""
        return _as_array(self.checkpoint.read(name, index))


_EXPERT_PARTS = ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias")


def _as_array(tensor: np.ndarray | Mxfp4Tensor) -> np.ndarray:
    return tensor.decode(np.float32) if isinstance(tensor, Mxfp4Tensor) else tensor.astype(np.float32)


def _softmax(x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    result: np.ndarray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result
