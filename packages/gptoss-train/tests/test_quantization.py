import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_train.config import ModelConfig
from gptoss_train.initial import initial_checkpoint
from gptoss_train.quantization import fake_quantized, straight_through
from gptoss_train.setup import open_base, set_up
from gptoss_weights import encode_mxfp4


def weights() -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.standard_t(3, (3, 50, 96)).astype(np.float32) * np.exp2(rng.integers(-40, 40, (3, 50, 1)))
    values[0, 0] = 0
    values[0, 1, :32] = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6] * 4)  # what MXFP4 holds
    values[0, 2, :32] = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6] * 4)  # ties
    values[0, 3, :32] = np.linspace(-7.9, 7.9, 32)  # between 7 and 8 of the smaller scale
    return values.astype(np.float32)


@pytest.mark.parametrize("scale", ["max", "mse"])
def test_rounding_is_that_of_the_encoder_that_exports(scale):
    values = weights()
    expected = encode_mxfp4(values, scale=scale).decode(np.float32)
    actual = np.asarray(jax.jit(lambda values: fake_quantized(values, scale=scale))(jnp.asarray(values)))
    # The errors of two scales may tie up to rounding; then either is right.
    is_other = (actual != expected).reshape(-1, 32).any(axis=1)
    assert is_other.mean() < 0.01 if scale == "mse" else not is_other.any()
    blocks = [array.reshape(-1, 32)[is_other] for array in (values, actual, expected)]
    np.testing.assert_allclose(
        np.square(blocks[1] - blocks[0]).sum(axis=1), np.square(blocks[2] - blocks[0]).sum(axis=1), rtol=1e-4
    )


def test_gradient_goes_straight_through():
    values = jnp.asarray(weights()[0])
    seed = jnp.asarray(np.random.default_rng(1).standard_normal(values.shape), jnp.float32)
    gradient = jax.grad(lambda values: (straight_through(values) * seed).sum())(values)
    np.testing.assert_array_equal(gradient, seed)
    np.testing.assert_array_equal(straight_through(values), fake_quantized(values))


def test_frozen_experts_are_rounded_as_well(make_config, make_batch):
    """What is not trained is packed by the export too: the loss that is seen is that of what is exported."""
    config = make_config(frozen=("*.experts.down_proj",), run=ModelConfig(quantization_aware=True))
    base = initial_checkpoint(open_base(config, "finetune").config, seed=5, side_files={})
    run = set_up(config, "finetune", base=base)
    plain = set_up(dataclasses.replace(config, run=ModelConfig()), "finetune", base=base)
    [name] = [name for name in run.frozen if name.endswith("experts.down_proj")]
    before = np.asarray(plain.frozen[name])
    assert (np.asarray(run.frozen[name]) != before).any()
    np.testing.assert_array_equal(run.frozen[name], fake_quantized(jnp.asarray(before)))
    assert run.frozen[name].sharding == plain.frozen[name].sharding
