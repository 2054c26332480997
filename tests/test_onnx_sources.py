"""Whatever holds a checkpoint becomes the same ONNX model: every format on disk, and a model that lives in JAX."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from gptoss_model import canonical_names, load_model, model_checkpoint
from gptoss_onnx import OnnxModel, export_onnx
from gptoss_onnx.cli import main
from gptoss_weights import Checkpoint, open_checkpoint, random_checkpoint, save_checkpoint
from gptoss_weights.testing import tiny_config

PACKED = random_checkpoint(tiny_config(num_hidden_layers=4, head_dim=32), seed=11)
TOKENS = [[(7 * place + 1) % PACKED.config.vocab_size for place in range(2 * PACKED.config.sliding_window + 3)]]
# Another order of sums is all that may differ: the limit that holds between any two exact engines here.
TOLERANCE = 2e-6

each_profile = pytest.mark.parametrize("profile", ["portable", "fast"])


def relative_l2(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def in_jax(model: nnx.Module) -> np.ndarray:
    return np.asarray(model(jnp.asarray(TOKENS)).logits)


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    """The logits of the packed checkpoint itself, in JAX, f32 [1, T, V]."""
    return in_jax(load_model(PACKED, dtype=jnp.float32))


@pytest.fixture(scope="module", params=["flax", "orbax-scanned", "orbax-unscanned"])
def stored(request, tmp_path_factory) -> Checkpoint:
    """The same checkpoint in a format that keeps experts as arrays."""
    place = tmp_path_factory.mktemp("stored") / ("model.msgpack" if request.param == "flax" else "model")
    save_checkpoint(PACKED, place, format=request.param)
    checkpoint = open_checkpoint(place)
    assert checkpoint.format == request.param
    return checkpoint


@each_profile
def test_every_format_on_disk_becomes_the_model_that_it_was_made_from(stored, profile, expected, tmp_path):
    model = OnnxModel.open(export_onnx(stored, tmp_path / "onnx", profile=profile))
    assert model.metadata.source_format == stored.format
    assert relative_l2(model.forward(TOKENS), expected) <= TOLERANCE


def test_the_command_exports_orbax_and_validates_it(tmp_path, capsys):
    save_checkpoint(PACKED, tmp_path / "orbax", format="orbax-scanned")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path / "orbax"), str(tmp_path / "onnx"), "--layers", "2", "--validate"])
    assert ended.value.code == 0
    assert "validated: relative L2" in capsys.readouterr().out
    assert OnnxModel.open(tmp_path / "onnx").config.num_hidden_layers == 2


@each_profile
@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("experts", ["mxfp4", "decoded"])
def test_a_live_model_is_exported_as_it_is_now(profile, scan_layers, experts, expected, tmp_path):
    """Changed in memory since it was loaded, so that no file holds what is exported."""
    model = load_model(PACKED, dtype=jnp.float32, experts=experts, scan_layers=scan_layers)
    views = canonical_names(model)
    for name in ("lm_head.weight", "model.layers.2.self_attn.q_proj.weight", "model.layers.1.mlp.router.bias"):
        variable = views[name].variable
        value = variable.get_value()
        variable.set_value(value * (1 + 0.1 * jnp.cos(jnp.arange(value.size, dtype=value.dtype).reshape(value.shape))))
    changed = in_jax(model)
    assert relative_l2(changed, expected) > 0.01
    exported = OnnxModel.open(export_onnx(model_checkpoint(model), tmp_path / "onnx", profile=profile))
    assert relative_l2(exported.forward(TOKENS), changed) <= TOLERANCE
