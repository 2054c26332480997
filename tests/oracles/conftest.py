"""What the oracles share: the sources, prompts, and the reference goldens as traces."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gptoss_parity import Dtype, Source, Trace, TraceMetadata, make_source
from gptoss_weights import GptOssConfig, layer_probe

# The reference goldens' name of each probe of a layer.
REFERENCE_LAYER_NAMES = {
    "attention_residual": "attn_hidden",
    "router_logits": "router_logits",
    "router_indices": "router_idx",
    "router_weights": "router_w",
}


@pytest.fixture(scope="session")
def official() -> Source:
    """The official PyTorch code."""
    return make_source("torch")


@pytest.fixture(scope="session")
def jax() -> Source:
    """gptoss-model."""
    return make_source("jax")


@pytest.fixture(scope="session")
def onnx() -> Source:
    """gptoss-onnx; one thread, for the graphs are tiny."""
    return make_source("onnx", threads=1)


@pytest.fixture(scope="session")
def transformers() -> Any:
    """The library."""
    return pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(scope="session")
def load_in_transformers(transformers: Any) -> Callable[[Path], Any]:
    """Loads a folder as transformers does, MXFP4 dequantised, to compute in float32."""
    import torch

    def load(folder: Path) -> Any:
        options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager"}
        if "quantization_config" in json.loads((folder / "config.json").read_text()):
            options["quantization_config"] = transformers.Mxfp4Config(dequantize=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, **options).eval()
        assert type(model).__name__ == "GptOssForCausalLM"
        return model

    return load


@pytest.fixture(scope="session")
def torch_logits() -> Callable[[Any, list[int]], np.ndarray]:
    """Logits [T, V] of a model of transformers, or of PEFT around one."""
    import torch

    def compute(model: Any, tokens: list[int]) -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = model(torch.tensor([tokens])).logits[0].numpy()
        return found

    return compute


@pytest.fixture(scope="session")
def make_prompt() -> Callable[[GptOssConfig, int], list[int]]:
    """Random tokens of the whole vocabulary, always the same for one geometry and length."""

    def make(config: GptOssConfig, length: int) -> list[int]:
        return np.random.default_rng(length).integers(0, config.vocab_size, length).tolist()

    return make


@pytest.fixture(scope="session")
def reference_trace(reference: Path) -> Callable[[str, str, Dtype, GptOssConfig], Trace]:
    """One run out of a reference golden, e.g. `openai.f32` of `tiny`, as a trace."""

    def read(name: str, run: str, dtype: Dtype, config: GptOssConfig) -> Trace:
        golden = _load_without_bfloat16(reference / f"{name}.golden.safetensors")
        arrays = {"final_norm": golden[f"{run}.final_norm"], "logits": golden[f"{run}.logits"]}
        hidden = golden[f"{run}.hidden"]
        arrays["embedding"] = hidden[0]
        for layer in range(config.num_hidden_layers):
            arrays[layer_probe(layer, "output")] = hidden[layer + 1]
            for probe, theirs in REFERENCE_LAYER_NAMES.items():
                arrays[layer_probe(layer, probe)] = golden[f"{run}.{theirs}"][layer]
        metadata = TraceMetadata(source=f"reference {run}", dtype=dtype, config=config)
        return Trace(golden["tokens"], arrays, metadata, where=f"{name}.golden.safetensors")

    return read


def _load_without_bfloat16(path: Path) -> dict[str, np.ndarray]:
    """Every tensor that numpy knows the dtype of."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        names = [name for name in file.keys() if file.get_slice(name).get_dtype() != "BF16"]  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names}
