"""Fixtures of this package's tests: exported models, small graphs, and the model as SPEC's mathematics in numpy."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
from gptoss_onnx import OnnxModel, StaticShape, export_onnx, ir
from gptoss_onnx.cli import main
from gptoss_onnx.graph import GraphBuilder
from gptoss_onnx.session import LEAST_RUNTIME, LEAST_RUNTIME_FOR_LINKS
from gptoss_weights import (
    RMS_NORM_EPS,
    SWIGLU_ALPHA,
    Checkpoint,
    Mxfp4Tensor,
    inverse_frequencies,
    layer_probe,
    open_checkpoint,
    probe_specs,
    random_checkpoint,
    rope_concentration,
)
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint

SAFETENSORS_DTYPES = {
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "U8": np.uint8,
    "F64": np.float64,
    "I32": np.int32,
    "I64": np.int64,
}

type Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in several shards of Hugging Face's layout; not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoints") / "hf"
    return write_tiny_checkpoint(folder, format="hf", seed=1, max_shard_bytes=100_000)


@pytest.fixture(scope="session")
def checkpoint(checkpoint_folder: Path) -> Checkpoint:
    return open_checkpoint(checkpoint_folder)


@pytest.fixture(scope="session")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint as ONNX, with every probe; not to be changed."""
    return export_onnx(
        checkpoint,
        tmp_path_factory.mktemp("exported") / "onnx",
        probes=probe_specs(checkpoint.config, 1, block_debug=True),
    )


@pytest.fixture(scope="session")
def model(exported: Path) -> OnnxModel:
    return OnnxModel.open(exported, threads=1)


# Every way to compute the same exact numbers: recipe, and what it needs of the geometry.
EXACT_KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "portable": ({}, {}),
    "portable-int8": ({"experts": "int8"}, {}),
    "portable-float32": ({"experts": "float32", "dense": "float32"}, {}),
    "fast": ({"profile": "fast"}, {"head_dim": 32}),
    "fast-float32": ({"profile": "fast", "experts": "float32"}, {"head_dim": 16}),
    "fast-mxfp4": ({"profile": "fast", "experts": "mxfp4"}, {"head_dim": 48, "num_key_value_heads": 2}),
    "fast-odd-heads": ({"profile": "fast"}, {}),
    "static": ({"static": StaticShape(batch=4, length=70)}, {}),
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """One way to export, and what it was exported from."""

    name: str
    checkpoint: Checkpoint
    folder: Path
    model: OnnxModel


def installed_runtime() -> tuple[int, ...]:
    """The version of ONNX Runtime, two numbers of it."""
    return tuple(int(number) for number in ort.__version__.split(".")[:2])


def require_runtime(profile: str) -> None:
    """Skips a test whose export this ONNX Runtime is too old for."""
    if installed_runtime() < LEAST_RUNTIME[profile]:
        pytest.skip(f"profile {profile} needs a newer ONNX Runtime than {ort.__version__}")


@pytest.fixture(scope="session")
def fast_runtime() -> None:
    """For tests that run an export of profile fast."""
    require_runtime("fast")


@pytest.fixture(scope="session")
def linking_runtime() -> None:
    """For tests that run an export with linked weights."""
    if installed_runtime() < LEAST_RUNTIME_FOR_LINKS:
        pytest.skip(f"linked weights need a newer ONNX Runtime than {ort.__version__}")


@pytest.fixture(scope="session", params=EXACT_KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    """Each of `EXACT_KINDS`, exported with every probe and opened."""
    options, geometry = EXACT_KINDS[request.param]
    require_runtime(options.get("profile", "portable"))
    checkpoint = random_checkpoint(tiny_config(**geometry), seed=3)
    folder = tmp_path_factory.mktemp("kinds") / request.param
    export_onnx(checkpoint, folder, probes=probe_specs(checkpoint.config, 1, block_debug=True), **options)
    return Kind(request.param, checkpoint, folder, OnnxModel.open(folder, threads=1))


@pytest.fixture
def any_model(kind: Kind) -> OnnxModel:
    """A model of each kind."""
    return kind.model


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """A copy of the exported folder, to be damaged at will."""
    folder = tmp_path / "copied"
    folder.mkdir()
    for path in exported.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def tokens(checkpoint: Checkpoint) -> np.ndarray:
    """A prompt of several windows, int64 [T]."""
    return np.random.default_rng(5).integers(0, checkpoint.config.vocab_size, 4 * checkpoint.config.sliding_window)


@pytest.fixture
def run_graph() -> Callable[..., list[np.ndarray]]:
    """Runs a few nodes: `run_graph(lambda op, x: op.Neg(x), x=array)` gives their outputs."""

    def run(build: Callable[..., ir.Value | Sequence[ir.Value]], **inputs: np.ndarray) -> list[np.ndarray]:
        op = GraphBuilder()
        values = {
            name: op.input(name, ir.DataType.from_numpy(array.dtype), *[None] * array.ndim)
            for name, array in inputs.items()
        }
        built = build(op, **values)
        outputs = [built] if isinstance(built, ir.Value) else list(built)
        graph = op.graph("test", list(values.values()), outputs)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        content = ir.model_proto(graph, ir_version=10).SerializeToString()
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return session.run(None, inputs)

    return run


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Runs `gptoss-onnx` in this process."""

    def run(*arguments: object) -> Finished:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Finished(ended.value.code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def read_safetensors() -> Callable[[Path], Arrays]:
    """Reads a safetensors file, bf16 included, as numpy arrays; bf16 becomes f32."""

    def read(path: Path) -> Arrays:
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        arrays = {}
        for name, entry in json.loads(content[8:start]).items():
            if name != "__metadata__":
                begin, end = (start + offset for offset in entry["data_offsets"])
                array = np.frombuffer(content[begin:end], SAFETENSORS_DTYPES[entry["dtype"]]).reshape(entry["shape"])
                arrays[name] = array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array
        return arrays

    return read


@pytest.fixture(scope="session")
def relative_l2() -> Callable[[np.ndarray, np.ndarray], float]:
    def distance(found: np.ndarray, expected: np.ndarray) -> float:
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))

    return distance


@dataclasses.dataclass(frozen=True)
class Specification:
    """The forward pass in f64, written down from the official code; rotary angles are f32, as there."""

    checkpoint: Checkpoint

    def weight(self, name: str) -> np.ndarray:
        tensor = self.checkpoint.read(name)
        return (tensor.decode(np.float32) if isinstance(tensor, Mxfp4Tensor) else tensor).astype(np.float64)

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.weight(f"{name}.weight").T + self.weight(f"{name}.bias")

    def rms_norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + RMS_NORM_EPS) * self.weight(name)

    def rotate(self, x: np.ndarray) -> np.ndarray:
        c = self.checkpoint.config
        frequencies = inverse_frequencies(
            head_dim=c.head_dim,
            rope_theta=c.rope_theta,
            initial_context_length=c.initial_context_length,
            scaling_factor=c.rope_scaling_factor,
            beta=c.rope_ntk_beta,
            alpha=c.rope_ntk_alpha,
        )
        angles = (np.arange(len(x), dtype=np.float32)[:, None] * frequencies).astype(np.float64)[:, None]
        cos, sin = (f(angles) * rope_concentration(c.rope_scaling_factor) for f in (np.cos, np.sin))
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def attention(self, x: np.ndarray, layer: int) -> Arrays:
        c, name = self.checkpoint.config, f"model.layers.{layer}.self_attn"
        T, group = len(x), c.num_attention_heads // c.num_key_value_heads
        q, k, v = (self.linear(x, f"{name}.{part}_proj").reshape(T, -1, c.head_dim) for part in "qkv")
        q, k = self.rotate(q), self.rotate(k)
        found = {"query": q, "key": k, "value": v}
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        distance = np.arange(T)[:, None] - np.arange(T)
        sees = (distance >= 0) & (distance < (c.sliding_window if layer % 2 == 0 else T))
        scores = np.where(sees, np.einsum("tnh,snh->nts", q, k) / np.sqrt(c.head_dim), -np.inf)
        sinks = np.broadcast_to(self.weight(f"{name}.sinks")[:, None, None], (*scores.shape[:2], 1))
        exponentials = np.exp(np.concatenate([scores, sinks], -1) - np.maximum(scores.max(-1, keepdims=True), sinks))
        weights = (exponentials / exponentials.sum(-1, keepdims=True))[..., :-1]
        mixed = np.einsum("nts,snh->tnh", weights, v).reshape(T, -1)
        return found | {"attention_output": self.linear(mixed, f"{name}.o_proj")}

    def experts(self, x: np.ndarray, layer: int, indices: np.ndarray, weights: np.ndarray) -> Arrays:
        c, name = self.checkpoint.config, f"model.layers.{layer}.mlp.experts"
        gate_up, down = (self.weight(f"{name}.{part}")[indices] for part in ("gate_up_proj", "down_proj"))
        hidden = np.einsum("tkod,td->tko", gate_up, x) + self.weight(f"{name}.gate_up_proj_bias")[indices]
        gate = np.minimum(hidden[..., ::2], c.swiglu_limit)
        up = np.clip(hidden[..., 1::2], -c.swiglu_limit, c.swiglu_limit)
        activated = gate / (1 + np.exp(-SWIGLU_ALPHA * gate)) * (up + 1)
        out = np.einsum("tkof,tkf->tko", down, activated) + self.weight(f"{name}.down_proj_bias")[indices]
        combined = np.einsum("tko,tk->to", out, weights)
        return {"pre_activation": hidden, "activated": activated, "expert_outputs": out, "combined_output": combined}

    def probes(self, tokens: np.ndarray) -> Arrays:
        """Every probe of one sequence."""
        c = self.checkpoint.config
        x = self.weight("model.embed_tokens.weight")[tokens]
        found = {"embedding": x}
        for layer in range(c.num_hidden_layers):
            name = f"model.layers.{layer}"
            inside = {"attention_norm": self.rms_norm(x, f"{name}.input_layernorm.weight")}
            inside |= self.attention(inside["attention_norm"], layer)
            x = inside["attention_residual"] = x + inside["attention_output"]
            normed = inside["mlp_norm"] = self.rms_norm(x, f"{name}.post_attention_layernorm.weight")
            logits = inside["router_logits"] = self.linear(normed, f"{name}.mlp.router")
            indices = np.argsort(-logits, axis=-1, kind="stable")[:, : c.experts_per_token]
            exponentials = np.exp(np.take_along_axis(logits, indices, -1) - logits.max(-1, keepdims=True))
            weights = exponentials / exponentials.sum(-1, keepdims=True)
            inside |= {"router_indices": indices, "router_weights": weights}
            inside |= self.experts(normed, layer, indices, weights)
            x = inside["output"] = x + inside["combined_output"]
            found |= {layer_probe(layer, probe): array for probe, array in inside.items()}
        found["final_norm"] = self.rms_norm(x, "model.norm.weight")
        found["logits"] = found["final_norm"] @ self.weight("lm_head.weight").T
        return found


@pytest.fixture(scope="session")
def specification() -> Callable[[Checkpoint], Specification]:
    return Specification


@pytest.fixture(scope="session")
def expect_probes(relative_l2: Callable[[np.ndarray, np.ndarray], float]) -> Callable[..., None]:
    """Holds probes against others: floats to `tolerance` (relative L2), chosen experts exactly."""

    def expect(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], *, tolerance: float) -> None:
        assert expected.keys() - found.keys() == set()
        for name, array in expected.items():
            if name.endswith(("router_indices", "tokens")):
                assert (found[name] == array).all(), name
            else:
                assert relative_l2(found[name], array) <= tolerance, name

    return expect
