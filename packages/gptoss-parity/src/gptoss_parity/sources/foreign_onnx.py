"""An ONNX file that another exporter made, such as jax2onnx: token ids in, logits out, and nothing else known.

The one integer input takes the ids; where it has a fixed length, the prompt is padded behind its end,
which a causal model does not see. The one output whose last axis is the vocabulary holds the logits.
"""

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime as ort
from gptoss_weights import CheckpointError

__all__ = ["ForeignOnnx"]

_INTEGERS: dict[str, type[np.integer]] = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
_PADDING = 0  # any id: it stands behind the prompt


@dataclasses.dataclass(frozen=True)
class ForeignOnnx:
    """A session, the name, dtype and axes of its input, and the name of its logits."""

    where: Path
    session: ort.InferenceSession
    tokens: str
    dtype: type[np.integer]
    axes: tuple[int | str | None, ...]
    output: str

    @staticmethod
    def open(path: Path, *, vocab_size: int, threads: int | None = None) -> "ForeignOnnx":
        """Opens the file.

        Raises:
            CheckpointError: ONNX Runtime cannot load it, or inputs and outputs are not ids and logits.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or 0
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no other base
            raise CheckpointError(
                f"ONNX Runtime cannot load the file ({str(error).splitlines()[0]})", where=path
            ) from None
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _INTEGERS or len(inputs[0].shape) not in (1, 2):
            found = ", ".join(f"{given.name} {given.type}{given.shape}" for given in inputs)
            raise CheckpointError(
                "the graph does not take token ids alone",
                where=path,
                expected="one int32 or int64 input [T] or [B,T]",
                found=found,
            )
        outputs = [given.name for given in session.get_outputs() if given.shape and given.shape[-1] == vocab_size]
        if len(outputs) != 1:
            found = ", ".join(f"{given.name} {given.shape}" for given in session.get_outputs())
            raise CheckpointError(
                "the graph does not give logits", where=path, expected=f"one output […,T,{vocab_size}]", found=found
            )
        return ForeignOnnx(path, session, inputs[0].name, _INTEGERS[inputs[0].type], tuple(inputs[0].shape), outputs[0])

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """Logits [T, V] of one prompt.

        Raises:
            CheckpointError: the graph was made for fewer tokens.
        """
        length = self.axes[-1]
        ids = tokens.astype(self.dtype)
        if isinstance(length, int):
            if len(tokens) > length:
                raise CheckpointError(
                    "the graph was exported for fewer tokens",
                    where=self.where,
                    expected=f"at most {length}",
                    found=len(tokens),
                    fix="Shorten the prompt with --max-tokens.",
                )
            ids = np.pad(ids, (0, length - len(ids)), constant_values=_PADDING)
        if len(self.axes) > 1:
            batch = self.axes[0] if isinstance(self.axes[0], int) else 1
            ids = np.broadcast_to(ids, (batch, len(ids))).copy()
        (logits,) = self.session.run([self.output], {self.tokens: ids})
        rows: np.ndarray = logits.reshape(-1, *logits.shape[-2:])[0]
        return rows[: len(tokens)].astype(np.float32)
