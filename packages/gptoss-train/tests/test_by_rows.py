import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gptoss_train.by_rows import by_rows
from gptoss_train.config import OptimizerConfig
from gptoss_train.optimizer import init_moments, make_optimizer, treats_numbers_alone

SHAPES = {"x.weight": (2, 160, 136), "y.weight": (40, 8, 136), "x.bias": (136,)}


def a_change(name):
    """What the step does to parameters, and something for it to change."""
    config = OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.5, momentum=0.9, schedule="constant")
    optimizer = make_optimizer(config, steps=9)
    draw = np.random.default_rng(3).standard_normal
    gradients, parameters = ({name: jnp.float32(draw(shape)) for name, shape in SHAPES.items()} for _ in range(2))

    def change(gradients, parameters, moments):
        updates, moments = optimizer.update(gradients, moments, parameters)
        return optax.apply_updates(parameters, updates), moments

    return config, change, (gradients, parameters, init_moments(optimizer, parameters))


@pytest.mark.parametrize("name", ["adamw", "lion", "sgd", "adafactor"])
def test_what_treats_numbers_alone_does_by_rows_what_it_does(name):
    """Adafactor does not: it has one moment a row of a matrix and one a column."""
    config, change, before = a_change(name)
    expected = jax.tree.leaves(jax.jit(change)(*before))
    found = jax.jit(by_rows(change))
    if not treats_numbers_alone(config):
        with pytest.raises((TypeError, ValueError)):
            found(*before)
        assert name == "adafactor"
        return
    for one, other in zip(jax.tree.leaves(found(*before)), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    assert jax.tree.structure(found(*before)) == jax.tree.structure(change(*before))


@pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="XLA of older releases takes the shapes in again")
def test_shapes_of_one_size_are_one_loop():
    """The compiler does not take the shapes in again."""
    _, change, before = a_change("adamw")
    text = jax.jit(by_rows(change), donate_argnums=(1, 2)).lower(*before).compile().as_text()
    loops = re.findall(r"= f32\[([\d,]+)\]\S* fusion\(", text)
    assert loops
    assert set(loops) == {"43520", "136"}
