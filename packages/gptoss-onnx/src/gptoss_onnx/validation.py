"""validate_export: runs a few tokens through an export and, apart from it, through the mathematics in NumPy.

The mathematics here reads the checkpoint, not the export, and shares no code with the graph; only
the rows and experts that the tokens need are decoded. It is to find a wrong file, matrix or axis,
not to measure rounding: gptoss-parity compares every probe with the official code.
"""

import dataclasses
from pathlib import Path

import numpy as np
from gptoss_weights import (
    RMS_NORM_EPS,
    SWIGLU_ALPHA,
    Checkpoint,
    Mxfp4Tensor,
    ParityError,
    rope_concentration,
)

from gptoss_onnx.metadata import MODEL_FILE
from gptoss_onnx.runtime import OnnxModel
from gptoss_onnx.session import read_metadata

__all__ = ["Validation", "validate_export"]

TOKENS = 4  # of which the last is decoded onto the cache of the others
EXACT_LIMIT = 1e-4  # relative L2; rounding in f32 comes to 1e-6, a wrong matrix to 1
ROUNDED_LIMITS = {"int8": 0.3, "int4": 0.6}  # of dense matrices; activations are int8 then


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation:
    """How far the export's logits are from the mathematics; relative L2."""

    prefill: float
    decode: float
    limit: float


def validate_export(checkpoint: Checkpoint, folder: Path | str) -> Validation:
    """Holds an export against the checkpoint that it was made from.

    Raises:
        ParityError: they disagree.
        CheckpointError: the export cannot be opened.
        MissingDependencyError: this ONNX Runtime cannot run it.
    """
    folder = Path(folder)
    recipe = read_metadata(folder / MODEL_FILE).recipe
    model = OnnxModel.open(folder, mode="exact" if recipe.is_exact else "turbo")
    length = TOKENS if recipe.static is None else min(TOKENS, recipe.static.length)
    tokens = np.random.default_rng(0).integers(0, checkpoint.config.vocab_size, length)
    expected = _Mathematics(checkpoint).logits(tokens)
    cache = model.init_cache(1, length)
    found = []
    for part in (tokens[:-1], tokens[-1:]):
        if len(part):
            logits, cache = model.prefill(cache, part[None])
            found.append(_distance(logits[0], expected[cache.lengths[0] - 1]))
    limit = ROUNDED_LIMITS.get(recipe.dense, EXACT_LIMIT)
    result = Validation(prefill=found[0], decode=found[-1], limit=limit)
    if not max(found) <= limit:
        raise ParityError(
            "the export does not compute what the checkpoint says",
            where=folder,
            expected=f"logits within relative L2 {limit:g}",
            found=f"{max(found):.3g}",
            fix="Please report it; gptoss-parity says which probe differs first.",
        )
    return result


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@dataclasses.dataclass(frozen=True)
class _Mathematics:
    """The forward pass in f64; sequences are short, so no window is longer than it has to be."""

    checkpoint: Checkpoint

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """f64 [T, V]."""
        config = self.checkpoint.config
        x = np.concatenate([self._read("model.embed_tokens.weight", (slice(t, t + 1),)) for t in tokens])
        for layer in range(config.num_hidden_layers):
            name = f"model.layers.{layer}"
            x = x + self._attention(self._norm(x, f"{name}.input_layernorm.weight"), layer)
            x = x + self._experts(self._norm(x, f"{name}.post_attention_layernorm.weight"), layer)
        x = self._norm(x, "model.norm.weight")
        slabs = self.checkpoint.row_slices("lm_head.weight")
        return np.concatenate([x @ self._read("lm_head.weight", (rows,)).T for rows in slabs], axis=1)

    def _read(self, name: str, index: tuple[int | slice, ...] = ()) -> np.ndarray:
        tensor = self.checkpoint.read(name, index)
        return (tensor.decode(np.float32) if isinstance(tensor, Mxfp4Tensor) else tensor).astype(np.float64)

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        y: np.ndarray = x @ self._read(f"{name}.weight").T + self._read(f"{name}.bias")
        return y

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        y: np.ndarray = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + RMS_NORM_EPS) * self._read(name)
        return y

    def _attention(self, x: np.ndarray, layer: int) -> np.ndarray:
        config, name = self.checkpoint.config, f"model.layers.{layer}.self_attn"
        positions = np.arange(len(x))
        query, key, value = (
            self._linear(x, f"{name}.{part}").reshape(len(x), -1, config.head_dim)
            for part in ("q_proj", "k_proj", "v_proj")
        )
        angles = positions[:, None, None].astype(np.float32) * config.inverse_frequencies().astype(np.float32)
        turn = np.exp(1j * angles.astype(np.float64)) * rope_concentration(config.rope_scaling_factor)
        repeats = config.num_attention_heads // config.num_key_value_heads
        query, key = _rotated(query, turn), np.repeat(_rotated(key, turn), repeats, axis=1)
        behind = positions[:, None] - positions
        reach = config.sliding_window if config.is_sliding(layer) else len(x)
        weights = np.exp(np.einsum("tnh,snh->nts", query, key) / np.sqrt(config.head_dim))
        weights *= (behind >= 0) & (behind < reach)
        weights /= weights.sum(axis=-1, keepdims=True) + np.exp(self._read(f"{name}.sinks"))[:, None, None]
        mixed = np.einsum("nts,snh->tnh", weights, np.repeat(value, repeats, axis=1))
        return self._linear(mixed.reshape(len(x), -1), f"{name}.o_proj")

    def _experts(self, x: np.ndarray, layer: int) -> np.ndarray:
        config, name = self.checkpoint.config, f"model.layers.{layer}.mlp"
        scores = self._linear(x, f"{name}.router")
        result = np.zeros_like(x)
        for row, score in enumerate(scores):
            chosen = np.argsort(-score, kind="stable")[: config.experts_per_token]
            shares = np.exp(score[chosen] - score[chosen].max())
            for expert, share in zip(chosen.tolist(), shares / shares.sum(), strict=True):
                hidden = self._expert(x[row], f"{name}.experts.gate_up_proj", expert)
                gate = np.minimum(hidden[::2], config.swiglu_limit)
                up = np.clip(hidden[1::2], -config.swiglu_limit, config.swiglu_limit)
                activated = gate / (1 + np.exp(-SWIGLU_ALPHA * gate)) * (up + 1)
                result[row] += share * self._expert(activated, f"{name}.experts.down_proj", expert)
        return result

    def _expert(self, x: np.ndarray, name: str, expert: int) -> np.ndarray:
        y: np.ndarray = self._read(name, (expert,)) @ x + self._read(f"{name}_bias", (expert,))
        return y


def _rotated(x: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Pairs of first and second half as complex numbers, turned. x [T, N, H], turn [T, 1, H/2]."""
    first, second = np.split(x, 2, axis=-1)
    turned = (first + 1j * second) * turn
    return np.concatenate([turned.real, turned.imag], axis=-1)
