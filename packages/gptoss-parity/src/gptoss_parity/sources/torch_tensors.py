"""What both sources on PyTorch share: devices, tensors to and from numpy, a model run as a trace.

Nothing here imports an implementation: either extra works without the other.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gptoss_weights import BLOCK_DEBUG_PROBES, Checkpoint, MissingDependencyError
from torch.overrides import TorchFunctionMode

from gptoss_parity.sources.base import (
    DTYPES,
    Dtype,
    ExpertChoices,
    LoadingSource,
    check_tokens,
    forced_choices,
    metadata_of,
)
from gptoss_parity.trace import Trace

__all__ = ["TorchRunner", "TorchSource", "Undrawn", "checked_device", "to_numpy", "to_torch"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TorchSource(LoadingSource):
    """A source on PyTorch.

    Attributes:
        device: Where it runs: `cpu`, `cuda:0`, ….
    """

    device: str = "cpu"

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """What it can compute in."""
        return DTYPES


@dataclasses.dataclass(frozen=True)
class TorchRunner(abc.ABC):
    """A loaded model; `distributions` and `options` are what its traces say of where they come from."""

    checkpoint: Checkpoint
    dtype: Dtype
    source: TorchSource
    distributions: Sequence[str]
    options: Mapping[str, str]

    @abc.abstractmethod
    def forward(
        self, prompt: np.ndarray, forced: Sequence[np.ndarray] | None, *, block_debug: bool
    ) -> Mapping[str, np.ndarray]:
        """Every probe of T tokens, with the experts `forced` if any; block-debug ones may come unasked."""

    def run(self, tokens: Sequence[int], *, block_debug: bool = False, choices: ExpertChoices | None = None) -> Trace:
        """One forward pass; the arguments are those of `LoadingSource.record`."""
        prompt = check_tokens(self.checkpoint, tokens)
        forced = forced_choices(self.checkpoint, prompt, choices)
        arrays = self.forward(prompt, forced, block_debug=block_debug)
        if not block_debug:
            arrays = {name: a for name, a in arrays.items() if name.rpartition(".")[2] not in BLOCK_DEBUG_PROBES}
        metadata = metadata_of(
            self.checkpoint,
            source=self.source.name,
            dtype=self.dtype,
            distributions=("gptoss-parity", "gptoss-weights", "torch", *self.distributions),
            options={"device": self.source.device, **self.options},
            is_replayed=forced is not None,
        )
        return Trace(prompt, arrays, metadata)


def checked_device(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        MissingDependencyError: this machine has none.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise MissingDependencyError(
            f"PyTorch cannot use the device {name!r} ({str(error).splitlines()[0]})",
            fix="Choose another with --torch-device, or leave it out for the CPU.",
        ) from None
    return device


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Floats as float32, which is exact for bfloat16; integers as they are."""
    array: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return array


def to_torch(array: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """A writable copy on the device; bfloat16 travels as its bits, which numpy and torch name differently."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16).to(device)
    return torch.from_numpy(np.array(array)).to(device)


class Undrawn(TorchFunctionMode):  # type: ignore[misc]  # PyTorch is Any to mypy here
    """While a model is made inside, no random numbers are drawn for parameters that a checkpoint will overwrite.

    At full size, drawing them is a third of all the work of reading a layer and running it. (A mode for
    dispatched operations would see more, but loads PyTorch's compiler: seven seconds.)
    """

    _DRAWS = (torch.nn.init.normal_, torch.nn.init.kaiming_uniform_)

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs every function but those."""
        options = options or {}
        if function in self._DRAWS:
            return arguments[0] if arguments else options["tensor"]
        return function(*arguments, **options)
