import json

import numpy as np
import pytest
from gptoss_train.adapters import Adapter, Update
from gptoss_train.peft_format import peft_tensors, save_peft_adapter
from gptoss_weights import CheckpointError
from gptoss_weights.testing import tiny_config

CONFIG = tiny_config(num_hidden_layers=1)
E, D, F, R = CONFIG.num_experts, CONFIG.hidden_size, CONFIG.intermediate_size, 3
LAYER = "model.layers.0"


@pytest.fixture
def adapter() -> Adapter:
    rng = np.random.default_rng(0)

    def update(*shape: int) -> Update:
        *leading, out, width = shape
        a, b = rng.standard_normal((*leading, R, width)), rng.standard_normal((*leading, out, R))
        return Update(a=a.astype(np.float32), b=b.astype(np.float32), scale=2.0)

    updates = {
        f"{LAYER}.self_attn.q_proj.weight": update(CONFIG.q_size, D),
        f"{LAYER}.mlp.experts.gate_up_proj": update(E, 2 * F, D),
        f"{LAYER}.mlp.experts.down_proj": update(E, D, F),
    }
    return Adapter(updates=updates, replaced={}, rank=R, alpha=6.0)


def test_experts_factors_give_what_peft_makes_of_them(adapter, relative_error):
    """PEFT's `ParamWrapper.get_delta_weight`, for which the inner wrapper has `gate_up_proj`."""
    tensors = peft_tensors(adapter, CONFIG)
    experts = f"base_model.model.{LAYER}.mlp.experts"
    for name, stem in (("gate_up_proj", f"{experts}.base_layer"), ("down_proj", experts)):
        a, b = tensors[f"{stem}.lora_A.weight"], tensors[f"{stem}.lora_B.weight"]
        a, b = a.reshape(E, -1, a.shape[-1]), b.reshape(b.shape[0], -1, E)
        delta = np.einsum("ore,eri->eoi", b, a) * 6.0 / R
        assert relative_error(delta, adapter.updates[f"{LAYER}.mlp.experts.{name}"].of(())) < 1e-6


def test_a_single_experts_parameter_has_no_wrapper_inside(adapter):
    only = {name: update for name, update in adapter.updates.items() if "gate_up" in name}
    tensors = peft_tensors(Adapter(updates=only, replaced={}, rank=R, alpha=6.0), CONFIG)
    assert set(tensors) == {f"base_model.model.{LAYER}.mlp.experts.lora_{side}.weight" for side in "AB"}


def test_config_names_the_targets(adapter, tmp_path):
    save_peft_adapter(adapter, tmp_path / "adapter", config=CONFIG, base_model="base")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj"]
    assert config["target_parameters"] == ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (R, 6.0, "base")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
    with pytest.raises(CheckpointError, match="something already"):
        save_peft_adapter(adapter, tmp_path / "adapter", config=CONFIG, base_model="base")


def test_trained_sinks_are_refused(adapter):
    sinks = {f"{LAYER}.self_attn.sinks": np.zeros(3, np.float32)}
    with pytest.raises(CheckpointError, match="sinks"):
        peft_tensors(Adapter(updates=adapter.updates, replaced=sinks, rank=R, alpha=6.0), CONFIG)
