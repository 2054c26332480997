import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_train.gradient_squares import GradientSquares

STACK, SMALL, MATRIX = (
    "model.layers.every.self_attn.o_proj.weight",
    "model.layers.every.self_attn.sinks",
    "lm_head.weight",
)


@pytest.fixture
def gradients() -> dict[str, jax.Array]:
    generator = np.random.default_rng(0)
    shapes = {STACK: (3, 64, 48), SMALL: (3, 5), "lm_head.weight": (100, 64), "model.norm.weight": (7,)}
    return {name: jnp.asarray(generator.standard_normal(shape, np.float32)) for name, shape in shapes.items()}


def test_sums_are_those_of_each_layer_however_large_a_parameter_is(gradients):
    found = jax.jit(GradientSquares.of)(gradients)
    assert len(found.values) == 3 + 1 + 15 + 7, "small ones are joined and not summed"
    sums = found.sums()
    assert sums.keys() == gradients.keys()
    for name, gradient in gradients.items():
        rows = np.asarray(gradient, np.float64).reshape(3 if "every" in name else 1, -1)
        np.testing.assert_allclose(sums[name], np.square(rows).sum(axis=1), rtol=1e-6)
    total = sum(np.square(np.asarray(gradient, np.float64)).sum() for gradient in gradients.values())
    assert float(found.norm()) == pytest.approx(np.sqrt(total), rel=1e-6)


@pytest.mark.parametrize("name", [STACK, SMALL])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e19])
def test_layer_whose_gradient_is_no_number_is_named(gradients, name, value):
    """With 1e19 it is the sum of squares in f32 that is none."""
    gradients[name] = gradients[name].at[1, :4].set(value)
    flags = GradientSquares.of(gradients).are_finite()
    assert flags.pop(name).tolist() == [True, False, True]
    assert all(others.all() for others in flags.values())
