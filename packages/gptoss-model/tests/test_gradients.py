"""Gradients of the whole model, parameter by parameter, against finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from gptoss_model import canonical_names, load_model

STEP = 1e-3  # relative to the parameter; a larger one would send tokens to other experts
CURVATURE = 1e-3  # relative; measured: 2e-4
ROUNDING = 2e-5  # of a slope, by f32; measured: 1e-5


@functools.partial(jax.jit, static_argnums=0)
def loss(structure, state, tokens, seed):
    return (nnx.merge(structure, state)(tokens).logits * seed).mean()


@pytest.mark.slow
@pytest.mark.parametrize("scan_layers", [False, True])
def test_slope_along_every_parameter_is_its_finite_difference(tiny, scan_layers):
    model = load_model(tiny, dtype=jnp.float32, experts="decoded", scan_layers=scan_layers)
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(0, 211, (1, 20)))
    seed = jnp.asarray(rng.standard_normal((1, 20, 211)), jnp.float32)
    structure, state = nnx.split(model)
    gradients = jax.grad(loss, argnums=1)(structure, state, tokens, seed)
    leaves, treedef = jax.tree.flatten(state)
    slopes = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(gradients)]
    for number, (leaf, slope) in enumerate(zip(leaves, slopes, strict=True)):
        # Along the gradient itself the slope is steepest, and stands out of the rounding.
        direction = slope / np.linalg.norm(slope) * np.linalg.norm(np.asarray(leaf, np.float64))
        ahead, behind = (
            float(loss(structure, treedef.unflatten([*leaves[:number], moved, *leaves[number + 1 :]]), tokens, seed))
            for moved in (jnp.asarray(leaf + sign * STEP * direction, jnp.float32) for sign in (1, -1))
        )
        expected = float((slope * direction).sum())
        assert abs(expected) > 50 * ROUNDING
        assert (ahead - behind) / (2 * STEP) == pytest.approx(expected, rel=CURVATURE, abs=ROUNDING)


def test_gradients_reach_every_parameter_by_its_canonical_name(tiny):
    model = load_model(tiny, dtype=jnp.float32, experts="decoded")
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 211, (2, 20)))
    gradients = canonical_names(nnx.grad(lambda model: jnp.square(model(tokens).logits).mean())(model))
    assert set(gradients) == set(tiny.specs)
    for name, gradient in gradients.items():
        assert np.isfinite(np.asarray(gradient.value)).all(), name
        assert np.asarray(gradient.value).any(), name
