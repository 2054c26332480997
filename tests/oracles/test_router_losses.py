"""Live: the load-balance loss of gptoss-train against transformers', layer by layer, over padded rows."""

import numpy as np
import pytest

pytestmark = pytest.mark.oracle


def test_load_balance_loss_is_that_of_transformers():
    import jax.numpy as jnp
    import torch
    from gptoss_train.loss import router_losses
    from transformers.models.gpt_oss.modeling_gpt_oss import load_balancing_loss_func

    rng = np.random.default_rng(0)
    L, B, T, E, k = 3, 2, 13, 7, 3
    logits = rng.standard_normal((L, B, T, E)).astype(np.float32) * 2
    is_real = np.arange(T) < np.array([[T], [6]])
    expected = [
        load_balancing_loss_func(
            (torch.from_numpy(layer.reshape(B * T, E)),), E, k, torch.from_numpy(is_real.astype(np.int64))
        ).item()
        for layer in logits
    ]
    actual = router_losses(jnp.asarray(logits), jnp.asarray(is_real), experts_per_token=k)
    assert float(actual.load_balance) == pytest.approx(np.mean(expected), rel=1e-6)
