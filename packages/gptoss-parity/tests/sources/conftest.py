"""The embedded demo, and checkpoints with one fault around it."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from gptoss_parity import Trace, load_trace
from gptoss_weights import Checkpoint, GptOssConfig, Index, Mxfp4Tensor
from gptoss_weights.demo import demo_checkpoint, demo_golden_path

type Fault = Callable[[np.ndarray], np.ndarray]


class FaultyCheckpoint(Checkpoint):
    """A checkpoint whose config, or some of whose tensors, are wrong; packed experts are altered decoded."""

    format = "faulty"
    side_files: Mapping = {}

    def __init__(self, sound: Checkpoint, *, config: GptOssConfig | None = None, faults: Mapping[str, Fault] = {}):
        self.sound = sound
        self.config = config or sound.config
        self.faults = faults

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        if name not in self.faults:
            return self.sound.read(name, index)
        tensor = self.sound.read(name)
        values = self.faults[name](np.array(tensor.decode() if isinstance(tensor, Mxfp4Tensor) else tensor))
        return values[index]


@pytest.fixture(scope="session")
def demo() -> Checkpoint:
    return demo_checkpoint()


@pytest.fixture(scope="session")
def golden() -> Trace:
    return load_trace(demo_golden_path("float32"))


@pytest.fixture(scope="session")
def faulty(demo) -> Callable[..., FaultyCheckpoint]:
    return lambda **fault: FaultyCheckpoint(demo, **fault)
