"""SharedCache: keys and values in buffers that the graph writes into, step after step."""

import dataclasses

import numpy as np
import onnxruntime as ort
from gptoss_weights import GptOssConfig

from gptoss_onnx.errors import RequestError
from gptoss_onnx.kv_cache import cache_names, layer_of
from gptoss_onnx.metadata import LOGITS_TO_KEEP

__all__ = ["Decoding", "SharedCache"]

SMALLEST_ROOM = 64  # tokens of a full layer
WINDOW_SLACK = 64  # rows beyond the window, so that a sliding layer moves its rows so much less often


class _Buffers:
    """The memory: name → f32 [B, K, rows, H], and how often it was handed on."""

    def __init__(self, config: GptOssConfig, batch: int, room: int) -> None:
        self.config = config
        self.room = room
        self.handed_on = 0
        self.arrays = {name: self._array(name, batch, room) for name in cache_names(config)}
        self.decoding: dict[ort.InferenceSession, Decoding] = {}

    def _array(self, name: str, batch: int, room: int) -> np.ndarray:
        is_sliding = self.config.is_sliding(layer_of(name))
        rows = self.config.sliding_window + WINDOW_SLACK if is_sliding else room
        return np.zeros((batch, self.config.num_key_value_heads, rows, self.config.head_dim), np.float32)

    def grow(self, room: int) -> None:
        """Makes room for more tokens on the full layers."""
        for name, old in self.arrays.items():
            if not self.config.is_sliding(layer_of(name)):
                self.arrays[name] = self._array(name, len(old), room)
                self.arrays[name][:, :, : old.shape[2]] = old
        self.room = room
        self.decoding.clear()


@dataclasses.dataclass(frozen=True)
class Decoding:
    """A session bound to the buffers of all sequences, for one token each; only the attention mask is bound anew.

    Binding everything anew would take more time in each step than all that is left around ONNX Runtime.

    Attributes:
        binding: Of everything but the mask.
        ids: Where the tokens are to be written, int64 [B, 1].
        logits: Where their logits will stand until the next step, f32 [B, 1, V].
    """

    binding: ort.IOBinding
    ids: np.ndarray
    logits: np.ndarray


@dataclasses.dataclass(frozen=True)
class SharedCache:
    """What a step returns; using it in the next takes its memory over, so it can be used only once.

    Attributes:
        lengths: Tokens of each sequence, int64 [B].
    """

    lengths: np.ndarray
    _buffers: _Buffers
    _number: int

    @staticmethod
    def empty(config: GptOssConfig, batch: int, max_length: int | None) -> "SharedCache":
        """A cache of nothing, with room for so many tokens."""
        room = min(max(max_length or 0, SMALLEST_ROOM), config.max_position_embeddings)
        return SharedCache(np.zeros(batch, np.int64), _Buffers(config, batch, room), 0)

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Size of the buffers."""
        return sum(array.nbytes for array in self._buffers.arrays.values())

    def check(self, config: GptOssConfig) -> None:
        """Holds its shapes against a model.

        Raises:
            RequestError: it is the cache of another.
        """
        found, expected = (
            [c.num_hidden_layers, c.num_key_value_heads, c.head_dim, c.sliding_window]
            for c in (self._buffers.config, config)
        )
        if found != expected:
            raise RequestError(
                "the cache does not fit the model",
                expected=f"layers, heads, head size and window {expected}",
                found=found,
                fix="Start with init_cache of this model.",
            )

    def taken_over(self, *, room: int) -> "SharedCache":
        """The same for the next step, with room for so many tokens; this one is of no use any more.

        Raises:
            RequestError: another step has taken the memory over already.
        """
        buffers = self._buffers
        if buffers.handed_on != self._number:
            raise RequestError(
                "the cache was used by another step, which has written into its memory",
                fix="Pass the cache that the last step returned, or begin anew with init_cache.",
            )
        buffers.handed_on += 1
        if room > buffers.room:
            buffers.grow(min(max(room, 2 * buffers.room), buffers.config.max_position_embeddings))
        return SharedCache(self.lengths, buffers, buffers.handed_on)

    def grown_by(self, tokens: np.ndarray) -> "SharedCache":
        """The same memory, after so many more tokens of each sequence."""
        return SharedCache(self.lengths + tokens, self._buffers, self._number)

    def buffer(self, name: str) -> np.ndarray:
        """The memory of one cache input, f32 [B, K, rows, H]."""
        return self._buffers.arrays[name]

    def binding(self, session: ort.InferenceSession, sequence: int | None) -> ort.IOBinding:
        """A session bound to the buffers, as past and as present, of one sequence or of all; no copy."""
        binding = session.io_binding()
        for name, array in self._buffers.arrays.items():
            part = array if sequence is None else array[sequence : sequence + 1]
            value = ort.OrtValue.ortvalue_from_numpy(part)
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), value)
        return binding

    def decoding(self, session: ort.InferenceSession) -> Decoding:
        """What decodes all sequences together; it is kept with the memory."""
        kept = self._buffers.decoding
        if session not in kept:
            ids = np.zeros((self.batch, 1), np.int64)
            logits = np.zeros((self.batch, 1, self._buffers.config.vocab_size), np.float32)
            binding = self.binding(session, None)
            binding.bind_ortvalue_input("input_ids", ort.OrtValue.ortvalue_from_numpy(ids))
            binding.bind_ortvalue_input(LOGITS_TO_KEEP, ort.OrtValue.ortvalue_from_numpy(np.array([1])))
            binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(logits))
            kept[session] = Decoding(binding, ids, logits)
        return kept[session]
