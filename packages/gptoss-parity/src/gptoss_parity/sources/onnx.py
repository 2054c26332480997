"""gptoss-onnx as a source: the checkpoint is exported, and ONNX Runtime runs the graph."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gptoss_onnx import OnnxModel, export_onnx
from gptoss_weights import Checkpoint

from gptoss_parity.sources.base import Dtype, check_tokens, metadata_of, require_dtype, wanted_probes
from gptoss_parity.trace import Trace

__all__ = ["OnnxSource"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnnxSource:
    """Records what the exported graph computes on ONNX Runtime's CPU provider.

    The export lives in a temporary folder, with every probe as an output, and goes when it has run.
    """

    threads: int | None = None

    @property
    def name(self) -> str:
        """What traces and reports call it."""
        return "onnx"

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """What it can compute in."""
        return ("float32",)

    def record(self, checkpoint: Checkpoint, tokens: Sequence[int], *, dtype: Dtype = "float32") -> Trace:
        """One run of the exported graph; see `Source.record`."""
        require_dtype(self, dtype)
        prompt = check_tokens(checkpoint, tokens)
        with tempfile.TemporaryDirectory(prefix="gptoss-parity-") as folder:
            exported = export_onnx(checkpoint, Path(folder) / "model", probes=wanted_probes(checkpoint, prompt))
            computed = OnnxModel.open(exported, threads=self.threads).trace(prompt)
        arrays = {name: np.asarray(array) for name, array in computed.items() if name != "tokens"}
        metadata = metadata_of(
            checkpoint,
            source=self.name,
            dtype=dtype,
            distributions=("gptoss-onnx", "gptoss-parity", "gptoss-weights", "numpy", "onnx", "onnxruntime"),
            options={"threads": "all" if self.threads is None else str(self.threads)},
        )
        return Trace(prompt, arrays, metadata)

    def generate(
        self, checkpoint: Checkpoint, tokens: Sequence[int], *, max_new_tokens: int, dtype: Dtype = "float32"
    ) -> list[int]:
        """The new ids of a greedy continuation, through an export without probes and its cache outputs."""
        require_dtype(self, dtype)
        prompt = check_tokens(checkpoint, tokens).tolist()
        with tempfile.TemporaryDirectory(prefix="gptoss-parity-") as folder:
            model = OnnxModel.open(export_onnx(checkpoint, Path(folder) / "model"), threads=self.threads)
            return model.generate([prompt], max_new_tokens=max_new_tokens)[0]
