"""Parts of the model alone: what they give for a probe is the next probe."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from gptoss_onnx import OptionError, export_onnx, plan_export
from gptoss_onnx.graph import COMPONENT_PROBES
from gptoss_onnx.session import session_options
from gptoss_weights import random_checkpoint
from gptoss_weights.testing import tiny_config

TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def source():
    return random_checkpoint(tiny_config(head_dim=32), seed=6)


@pytest.fixture(scope="module")
def probes(source, specification):
    tokens = np.random.default_rng(6).integers(0, source.config.vocab_size, 30)
    found = specification(source).probes(tokens)
    return (
        found
        | {"layers.0.input": found["embedding"]}
        | {f"layers.{layer}.input": found[f"layers.{layer - 1}.output"] for layer in range(1, 4)}
    )


def run(folder, config, layer, x):
    options = session_options(threads=1, is_prepacked=False)
    session = ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    feeds = {"hidden_states": x[None].astype(np.float32)}
    outputs = ["output"]
    if "attention_mask" in names:
        feeds["attention_mask"] = np.ones((1, len(x)), np.int64)
        rows = len(x) if "fast" in str(folder) else 0
        nothing = np.zeros((1, config.num_key_value_heads, rows, config.head_dim), np.float32)
        feeds |= {f"past_key_values.{layer}.{part}": nothing for part in ("key", "value")}
    assert names == feeds.keys()
    return session.run(outputs, feeds)[0][0]


@pytest.mark.parametrize("profile", ["portable", "fast"])
@pytest.mark.parametrize("layer", [2, 3])
@pytest.mark.parametrize("component", COMPONENT_PROBES)
def test_a_part_takes_one_probe_and_gives_another(
    request, component, layer, profile, source, probes, tmp_path, relative_l2
):
    if profile == "fast":
        request.getfixturevalue("fast_runtime")
    folder = export_onnx(source, tmp_path / profile, component=component, layer=layer, profile=profile)
    takes, gives = (probes[f"layers.{layer}.{probe}"] for probe in COMPONENT_PROBES[component])
    assert relative_l2(run(folder, source.config, layer, takes), gives) <= TOLERANCE


@pytest.mark.parametrize("component", COMPONENT_PROBES)
def test_a_part_has_its_own_weights_and_no_others(component, source, tmp_path):
    folder = export_onnx(source, tmp_path / "part", component=component, layer=1)
    model = onnx.load_model(folder / "model.onnx", load_external_data=False)
    weights = [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert weights
    assert all(name.startswith("model.layers.1.") for name in weights)
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "weights.safetensors"}
    onnx.checker.check_model(folder / "model.onnx", full_check=True)


def test_of_stored_weights_only_what_the_part_needs_is_copied(checkpoint, checkpoint_folder, tmp_path):
    plan = plan_export(checkpoint, tmp_path / "part", component="rms_norm", layer=1)
    assert plan.files.bytes_to_write < 1000
    in_place = plan_export(checkpoint, checkpoint_folder, component="rms_norm", layer=1)
    assert in_place.files.bytes_to_write == 0


def test_an_unknown_part_is_refused(source, tmp_path):
    with pytest.raises(OptionError, match="no component is called head; there are attention, mlp, rms_norm, block"):
        plan_export(source, tmp_path / "part", component="head")
