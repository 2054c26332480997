"""Synthetic traces: consistent with themselves, of no model, cheap enough for every fault."""

from collections.abc import Callable

import numpy as np
import pytest
from gptoss_parity import Trace, TraceMetadata
from gptoss_weights import GptOssConfig, probe_specs
from gptoss_weights.testing import tiny_config

TOKENS = 40  # several windows

type Edit = Callable[[dict[str, np.ndarray]], None]


@pytest.fixture(scope="session")
def config() -> GptOssConfig:
    return tiny_config()


@pytest.fixture(scope="session")
def trace(config: GptOssConfig) -> Trace:
    """Random hidden states; experts and weights follow from the router logits."""
    rng = np.random.default_rng(0)
    specs = probe_specs(config, TOKENS)
    arrays = {name: rng.normal(size=spec.shape).astype(np.float32) for name, spec in specs.items()}
    tokens = rng.integers(0, config.vocab_size, TOKENS)
    del arrays["tokens"]
    for layer in range(config.num_hidden_layers):
        route(arrays, layer, config.experts_per_token)
    return Trace(tokens, arrays, TraceMetadata(source="synthetic", dtype="float32", config=config))


@pytest.fixture
def edited(trace: Trace) -> Callable[..., Trace]:
    """The synthetic trace after an edit of its arrays, and of its metadata by keyword."""

    def edit(change: Edit = lambda arrays: None, **metadata: object) -> Trace:
        arrays = {name: array.copy() for name, array in trace.items()}
        change(arrays)
        kept = {"source": "synthetic", "dtype": "float32", "config": trace.metadata.config}
        return Trace(trace.tokens, arrays, TraceMetadata(**(kept | metadata)))

    return edit


def route(arrays: dict[str, np.ndarray], layer: int, experts_per_token: int) -> None:
    logits = arrays[f"layers.{layer}.router_logits"]
    indices = np.argsort(-logits, axis=-1)[:, :experts_per_token]
    chosen = np.take_along_axis(logits, indices, axis=-1)
    exponentials = np.exp(chosen - chosen.max(axis=-1, keepdims=True))
    arrays[f"layers.{layer}.router_indices"] = indices.astype(np.int32)
    arrays[f"layers.{layer}.router_weights"] = exponentials / exponentials.sum(axis=-1, keepdims=True)
