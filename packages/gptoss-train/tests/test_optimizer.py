import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_train.config import OptimizerConfig
from gptoss_train.optimizer import init_moments, make_optimizer, make_schedule
from gptoss_train.parameters import group_of, is_decayed
from gptoss_weights import tensor_specs
from gptoss_weights.testing import tiny_config

OPTIMIZERS = ["adamw", "adafactor", "lion", "sgd"]


def rates(steps: int = 20, **options) -> list[float]:
    config = OptimizerConfig(learning_rate=1.0, **options)
    schedule = make_schedule(config, steps=steps)
    return [float(schedule(step)) for step in range(steps)]


def test_rate_rises_to_the_highest_and_falls_as_the_schedule_says():
    found = rates(schedule="cosine", warmup_steps=4, final_ratio=0.1)
    assert found[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert found[12] == pytest.approx(0.55)
    assert 0.1 < found[-1] < 0.12
    assert rates(schedule="linear", final_ratio=0.0)[10] == pytest.approx(0.5)
    assert set(rates(schedule="constant")) == {1.0}
    stable = rates(schedule="wsd", warmup_steps=4, decay_steps=8, final_ratio=0.0)
    assert stable[4:13] == pytest.approx([1] * 9)
    assert stable[16] == pytest.approx(0.5)


def test_decay_spares_norms_biases_and_sinks():
    spared = {
        name.rsplit(".", 2)[-2] + "." + name.rsplit(".", 1)[-1]
        for name in tensor_specs(tiny_config())
        if not is_decayed(name)
    }
    assert spared == {
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
        "norm.weight",
        "self_attn.sinks",
        "q_proj.bias",
        "k_proj.bias",
        "v_proj.bias",
        "o_proj.bias",
        "router.bias",
        "experts.gate_up_proj_bias",
        "experts.down_proj_bias",
    }


def test_every_parameter_has_a_group():
    assert "other" not in {group_of(name) for name in tensor_specs(tiny_config())}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_moments_of_every_optimizer_begin_at_zero(name):
    """Of one device `init_state` puts zeros there without asking the optimizer."""
    optimizer = make_optimizer(OptimizerConfig(name=name, weight_decay=0.5, momentum=0.9), steps=9)
    state = init_moments(optimizer, {"x.weight": jnp.ones((256, 192)), "x.bias": jnp.ones(192)})
    assert jax.tree.leaves(state)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_follows_the_gradient_and_decays_matrices_only(name):
    optimizer = make_optimizer(
        OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.5, schedule="constant"), steps=9
    )
    parameters = {"x.weight": jnp.full((2, 2), 4.0, jnp.bfloat16), "x.bias": jnp.full(2, 4.0, jnp.bfloat16)}
    state = init_moments(optimizer, parameters)
    wide = {key: value.astype(jnp.float32) for key, value in parameters.items()}
    still, _ = optimizer.update({key: jnp.zeros_like(value) for key, value in wide.items()}, state, wide)
    assert np.asarray(still["x.weight"]) == pytest.approx(-0.1 * 0.5 * 4.0)
    assert not np.asarray(still["x.bias"]).any()
    moved, _ = optimizer.update({key: jnp.ones_like(value) for key, value in wide.items()}, state, wide)
    assert (np.asarray(moved["x.bias"]) < 0).all()
    assert moved["x.bias"].dtype == jnp.float32
