"""gptoss-onnx as a source: the checkpoint is exported, or an export is there, and ONNX Runtime runs the graph."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from gptoss_onnx import OnnxModel, export_onnx
from gptoss_onnx.errors import OptionError
from gptoss_onnx.recipe import Profile
from gptoss_onnx.session import Mode
from gptoss_weights import Checkpoint, CheckpointError, probe_specs

from gptoss_parity.sources.base import (
    Dtype,
    ExpertChoices,
    LoadingSource,
    check_tokens,
    metadata_of,
    require_dtype,
    wanted_probes,
)
from gptoss_parity.sources.foreign_onnx import ForeignOnnx
from gptoss_parity.trace import Trace

__all__ = ["OnnxSource"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnnxSource(LoadingSource):
    """Records what an exported graph computes on ONNX Runtime's CPU provider.

    Without a folder the export lives in a temporary one, with every probe as an output, and goes when
    it has run. A graph has its experts chosen inside, so it cannot replay those of another.

    Attributes:
        threads: How many to use; None for one a core.
        folder: An export of `gptoss-onnx`, or the ONNX file of another exporter, which gives logits only.
        profile: Of the export that is made where no folder is given.
        mode: `exact`, or `turbo` for exports of profile fast, which rounds activations to int8: farther
            from any reference than float32's limits allow.
    """

    threads: int | None = None
    folder: Path | None = None
    profile: Profile = "portable"
    mode: Mode = "exact"
    can_replay = False

    @property
    def name(self) -> str:
        """What traces and reports call it."""
        return "onnx"

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """What it can compute in."""
        return ("float32",)

    def load(self, checkpoint: Checkpoint, *, dtype: Dtype = "float32") -> "_OnnxRunner":
        """What runs the graph; it is exported when the first prompt comes, with the probes that are asked for."""
        require_dtype(self, dtype)
        if self.folder is not None and self.profile != "portable":
            raise ValueError(f"--onnx-profile is of an export that is made now, and --onnx names {self.folder}")
        if self.folder is not None and self.folder.is_file() and self.mode != "exact":
            raise ValueError(f"--onnx-mode is of exports of gptoss-onnx, and --onnx names another's, {self.folder}")
        if self.mode == "turbo" and self.folder is None and self.profile != "fast":
            raise ValueError(f"mode turbo is of exports with profile fast, not {self.profile} (--onnx-profile fast)")
        return _OnnxRunner(checkpoint, self)

    def generate(
        self, checkpoint: Checkpoint, tokens: Sequence[int], *, max_new_tokens: int, dtype: Dtype = "float32"
    ) -> list[int]:
        """The new ids of a greedy continuation, through an export without probes and its cache outputs."""
        require_dtype(self, dtype)
        prompt = check_tokens(checkpoint, tokens).tolist()
        with tempfile.TemporaryDirectory(prefix="gptoss-parity-") as folder:
            exported = export_onnx(checkpoint, Path(folder) / "model", profile=self.profile)
            model = OnnxModel.open(exported, threads=self.threads, mode=self.mode)
            return model.generate([prompt], max_new_tokens=max_new_tokens)[0]


@dataclasses.dataclass(frozen=True)
class _OnnxRunner:
    checkpoint: Checkpoint
    source: OnnxSource

    def run(self, tokens: Sequence[int], *, block_debug: bool = False, choices: ExpertChoices | None = None) -> Trace:
        if choices is not None:
            raise ValueError("an exported graph chooses its experts itself and cannot replay those of another")
        prompt = check_tokens(self.checkpoint, tokens)
        probes = wanted_probes(self.checkpoint, prompt, block_debug=block_debug)
        with self._model(probes) as model:
            if isinstance(model, OnnxModel):
                _refuse_another_model(self.checkpoint, model)
                computed = {name: array for name, array in model.trace(prompt).items() if name in probes}
            else:
                computed = {"logits": model.logits(prompt)}
        metadata = metadata_of(
            self.checkpoint,
            source=self.source.name,
            dtype="float32",
            distributions=("gptoss-onnx", "gptoss-parity", "gptoss-weights", "numpy", "onnx", "onnxruntime"),
            options=self._options(),
        )
        needed = {name for name in probe_specs(self.checkpoint.config, 1) if name != "tokens"}
        metadata = dataclasses.replace(metadata, is_partial=not needed <= set(computed))
        return Trace(prompt, {name: np.asarray(array) for name, array in computed.items()}, metadata)

    @contextlib.contextmanager
    def _model(self, probes: Sequence[str]) -> "Iterator[OnnxModel | ForeignOnnx]":
        given, threads, mode = self.source.folder, self.source.threads, self.source.mode
        if given is not None and given.is_file():
            yield ForeignOnnx.open(given, threads=threads, vocab_size=self.checkpoint.config.vocab_size)
        elif given is not None:
            try:
                model = OnnxModel.open(given, threads=threads, mode=mode)
            except OptionError as error:
                raise CheckpointError(str(error), where=given) from None
            yield model
        else:
            with tempfile.TemporaryDirectory(prefix="gptoss-parity-") as folder:
                place, profile = Path(folder) / "model", self.source.profile
                exported = export_onnx(self.checkpoint, place, probes=probes, profile=profile)
                yield OnnxModel.open(exported, threads=threads, mode=mode)

    def _options(self) -> dict[str, str]:
        source = self.source
        options = {"threads": "all" if source.threads is None else str(source.threads)}
        if source.folder is not None:
            options["export"] = str(source.folder)
        elif source.profile != "portable":
            options["profile"] = source.profile
        return options if source.mode == "exact" else options | {"mode": source.mode}


def _refuse_another_model(checkpoint: Checkpoint, model: OnnxModel) -> None:
    ours, theirs = checkpoint.config.numbers(), model.config.numbers()
    for name in ours:
        if ours[name] != theirs[name]:
            raise CheckpointError(
                f"the export is of a model with another {name}",
                where="--onnx",
                expected=f"{ours[name]} as in the checkpoint",
                found=theirs[name],
                fix="Name the checkpoint that it was exported from, or leave --onnx out to export this one.",
            )
