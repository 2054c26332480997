"""The faults: what implementations of GPT-OSS are known to get wrong, each as one overridden method.

Every fault is `PlainModel` but for one decision, or the checkpoint but for one bit. So what is compared
are numbers that a faulty implementation really computed. `where` is the first probe that the fault can
change: comparing must name it, and the layer it stands in.
"""

import dataclasses
import math
from collections.abc import Callable

import ml_dtypes
import numpy as np
from gptoss_weights import Checkpoint, GptOssConfig, Index, Mxfp4Tensor, StoredArray, StoredMxfp4, random_checkpoint
from gptoss_weights.yarn import yarn_ramp

from gptoss_parity.plain_model import Expert, PlainModel

__all__ = ["FAULTS", "FAULTY_LAYER", "Fault", "selftest_checkpoint"]

MAGNITUDE, SIGN = np.uint8(0x07), np.uint8(0x08)  # of the low one of the two MXFP4 codes in a byte
FAULTY_LAYER = 2  # of four: what is wrong in one layer only is wrong there, so that its number must be found too


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        name: In a few words.
        where: The probe that comparing must name first.
        model: The faulty implementation.
    """

    name: str
    where: str
    model: Callable[[Checkpoint], PlainModel]


def selftest_checkpoint() -> Checkpoint:
    """Four layers of random weights, for which every fault matters.

    Hidden and ffn are equal, as published, so that a transposed down projection has a shape that fits;
    the window is shorter than a short prompt, and the limit of SwiGLU so low that it clamps.
    """
    config = GptOssConfig(
        num_hidden_layers=4,
        num_experts=8,
        experts_per_token=2,
        vocab_size=160,
        hidden_size=64,
        intermediate_size=64,
        swiglu_limit=1.0,
        head_dim=16,
        num_attention_heads=6,
        num_key_value_heads=3,
        sliding_window=8,
        initial_context_length=4096,
        rope_theta=150000,
        rope_scaling_factor=32.0,
        rope_ntk_alpha=1,
        rope_ntk_beta=32,
    )
    return random_checkpoint(config, seed=0)


class _LongerWindow(PlainModel):
    def sees(self, query: np.ndarray, key: np.ndarray, layer: int) -> np.ndarray:
        if not self.config.is_sliding(layer):
            return super().sees(query, key, layer)
        seen: np.ndarray = (key <= query) & (query - key <= self.config.sliding_window)
        return seen


class _ShorterWindow(PlainModel):
    def sees(self, query: np.ndarray, key: np.ndarray, layer: int) -> np.ndarray:
        seen = super().sees(query, key, layer)
        return seen & (query - key < self.config.sliding_window - 1) if self.config.is_sliding(layer) else seen


class _SlidingOddLayers(PlainModel):
    def sees(self, query: np.ndarray, key: np.ndarray, layer: int) -> np.ndarray:
        return super().sees(query, key, layer + 1)


class _NoYarn(PlainModel):
    def inverse_frequencies(self) -> np.ndarray:
        config = self.config
        pairs = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
        return (1 / np.float64(config.rope_theta) ** pairs).astype(np.float32)

    def concentration(self) -> float:
        return 1.0


class _TruncatedYarn(PlainModel):
    def inverse_frequencies(self) -> np.ndarray:
        config = self.config
        low, high = yarn_ramp(
            head_dim=config.head_dim,
            rope_theta=config.rope_theta,
            initial_context_length=config.initial_context_length,
            beta=config.rope_ntk_beta,
            alpha=config.rope_ntk_alpha,
        )
        pairs = np.arange(config.head_dim // 2)
        frequencies = np.float64(config.rope_theta) ** (2 * pairs / config.head_dim)
        ramp = np.clip((pairs - math.floor(low)) / (math.ceil(high) - math.floor(low)), 0, 1)
        return (ramp / (config.rope_scaling_factor * frequencies) + (1 - ramp) / frequencies).astype(np.float32)


class _MissingSink(PlainModel):
    def probabilities(self, scores: np.ndarray, sinks: np.ndarray) -> np.ndarray:
        return super().probabilities(scores, np.full_like(sinks, -np.inf))


class _PositionOffByOne(PlainModel):
    def query_positions(self, tokens: int) -> np.ndarray:
        return super().query_positions(tokens) + np.float32(1)


class _SwappedExperts(PlainModel):
    def expert(self, layer: int, number: int) -> Expert:
        swapped = {0: 1, 1: 0}.get(number, number) if layer == FAULTY_LAYER else number
        return super().expert(layer, swapped)


class _SwappedExpertRows(PlainModel):
    def expert(self, layer: int, number: int) -> Expert:
        gate_up_proj, gate_up_bias, down_proj, down_bias = super().expert(layer, number)
        if layer == self.config.num_hidden_layers - 1 and number == 0:
            down_proj = down_proj[[1, 0, *range(2, len(down_proj))]]
        return gate_up_proj, gate_up_bias, down_proj, down_bias


class _TransposedDown(PlainModel):
    def expert(self, layer: int, number: int) -> Expert:
        gate_up_proj, gate_up_bias, down_proj, down_bias = super().expert(layer, number)
        return gate_up_proj, gate_up_bias, down_proj.T if layer == FAULTY_LAYER else down_proj, down_bias


class _GateBesideUp(PlainModel):
    def gate_and_up(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gate, up = np.split(hidden, 2, axis=-1)
        return gate, up


class _NoClamp(PlainModel):
    def clamped(self, gate: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return gate, up


class _GateClampedBelow(PlainModel):
    def clamped(self, gate: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gate, up = super().clamped(gate, up)
        return np.maximum(gate, -np.float32(self.config.swiglu_limit)), up


class _NoPlusOne(PlainModel):
    def activated(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        return super().activated(gate, up - 1)


class _SoftmaxBeforeTopK(PlainModel):
    def gate_weights(self, logits: np.ndarray, indices: np.ndarray) -> np.ndarray:
        every = np.broadcast_to(np.arange(logits.shape[-1]), logits.shape)
        return np.take_along_axis(super().gate_weights(logits, every), indices, axis=-1)


class _Bfloat16Router(PlainModel):
    def router_logits(self, x: np.ndarray, layer: int) -> np.ndarray:
        rounded = x.astype(ml_dtypes.bfloat16).astype(np.float32)
        return super().router_logits(rounded, layer).astype(ml_dtypes.bfloat16).astype(np.float32)


class _OneFlippedBit(Checkpoint):
    """A checkpoint with the sign of one MXFP4 code of one expert changed, in the faulty layer."""

    TENSOR = f"model.layers.{FAULTY_LAYER}.mlp.experts.down_proj"

    def __init__(self, source: Checkpoint) -> None:
        self.config, self.format, self.side_files = source.config, source.format, source.side_files
        self._source = source

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        if name != self.TENSOR:
            return self._source.read(name, index)
        whole = self._source.read(name)
        assert isinstance(whole, Mxfp4Tensor), "the experts of the self-test are packed"
        blocks = whole.blocks.copy()
        row = blocks[0, 0].reshape(-1)  # of expert 0; a view
        row[np.argmax(row & MAGNITUDE)] ^= SIGN  # at the largest, so that it is not 0 that becomes −0
        flipped = Mxfp4Tensor(blocks, whole.scales)
        return flipped[index] if index else flipped

    def stored(self, name: str) -> StoredArray | StoredMxfp4 | None:
        return None if name == self.TENSOR else self._source.stored(name)

    def array_dtype(self, name: str) -> np.dtype | None:
        return self._source.array_dtype(name)


def _with_flipped_bit(checkpoint: Checkpoint) -> PlainModel:
    return PlainModel(_OneFlippedBit(checkpoint))


def _in_layer(probe: str, layer: int = 0) -> str:
    return f"layers.{layer}.{probe}"


FAULTS = (
    Fault(name="window one token longer", where=_in_layer("attention_output"), model=_LongerWindow),
    Fault(name="window one token shorter", where=_in_layer("attention_output"), model=_ShorterWindow),
    Fault(name="odd layers slide, not the even", where=_in_layer("attention_output"), model=_SlidingOddLayers),
    Fault(name="no YaRN", where=_in_layer("query"), model=_NoYarn),
    Fault(name="YaRN's ramp truncated to integers", where=_in_layer("query"), model=_TruncatedYarn),
    Fault(name="queries one position late", where=_in_layer("query"), model=_PositionOffByOne),
    Fault(name="no sink", where=_in_layer("attention_output"), model=_MissingSink),
    Fault(name="router in bfloat16", where=_in_layer("router_logits"), model=_Bfloat16Router),
    Fault(name="softmax before top-k", where=_in_layer("router_weights"), model=_SoftmaxBeforeTopK),
    Fault(name="two experts swapped", where=_in_layer("pre_activation", FAULTY_LAYER), model=_SwappedExperts),
    Fault(name="gate beside up, not interleaved", where=_in_layer("activated"), model=_GateBesideUp),
    Fault(name="no clamp", where=_in_layer("activated"), model=_NoClamp),
    Fault(name="gate clamped from below too", where=_in_layer("activated"), model=_GateClampedBelow),
    Fault(name="no + 1", where=_in_layer("activated"), model=_NoPlusOne),
    Fault(
        name="square down projection transposed", where=_in_layer("expert_outputs", FAULTY_LAYER), model=_TransposedDown
    ),
    Fault(
        name="two rows of one expert swapped in the last layer", where=_in_layer("expert_outputs", 3),
        model=_SwappedExpertRows,
    ),
    Fault(
        name="one bit of one expert flipped", where=_in_layer("expert_outputs", FAULTY_LAYER), model=_with_flipped_bit
    ),
)  # fmt: skip
