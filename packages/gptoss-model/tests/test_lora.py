import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from gptoss_model import EXPERT_TARGETS, LINEAR_TARGETS, LoraParam, add_lora, canonical_names, load_model, make_mesh
from gptoss_weights import random_checkpoint
from gptoss_weights.testing import tiny_config

RANK = 3
TOKENS = np.random.default_rng(0).integers(0, 211, (2, 20))


def with_lora(tiny, *, is_random: bool, **options):
    model = load_model(tiny, dtype=jnp.float32, scan_layers=True, **options)
    add_lora(model, rank=RANK, alpha=6, targets=(*LINEAR_TARGETS, *EXPERT_TARGETS), seed=0)
    if is_random:
        rng = np.random.default_rng(1)
        for path, variable in nnx.to_flat_state(nnx.state(model, LoraParam)):
            if path[-1] == "b":
                values = rng.standard_normal(variable.shape).astype(np.float32) / 8
                variable.set_value(jax.device_put(values, variable.get_value().sharding))
    return model


def test_fresh_updates_change_nothing_and_are_no_parameters_of_the_schema(tiny):
    model = with_lora(tiny, is_random=False)
    expected = load_model(tiny, dtype=jnp.float32, scan_layers=True)(TOKENS).logits
    np.testing.assert_array_equal(model(TOKENS).logits, expected)
    assert set(canonical_names(model)) == set(tiny.specs)


@pytest.mark.slow
def test_updates_on_a_mesh_are_those_of_one_device(relative_error):
    sizes = {"num_experts": 6, "vocab_size": 212, "intermediate_size": 128, "num_key_value_heads": 4}
    config = tiny_config(num_hidden_layers=2, num_attention_heads=8, **sizes)
    splittable = random_checkpoint(config, seed=5)
    expected = with_lora(splittable, is_random=True)(TOKENS).logits
    sharded = with_lora(splittable, is_random=True, mesh=make_mesh("fsdp=2,expert=2,tensor=2"))
    assert relative_error(sharded(TOKENS).logits, expected) < 2e-6


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"targets": ("q_porj",)}, "q_porj"),
        ({"targets": ()}, "none"),
        ({"targets": ("q_proj",), "rank": 0}, "positive"),
    ],
)
def test_impossible_updates_are_refused(tiny, arguments, word):
    with pytest.raises(ValueError, match=word):
        add_lora(load_model(tiny), **{"rank": 2, "alpha": 2, "seed": 0} | arguments)


def test_matrix_is_updated_once(tiny):
    model = with_lora(tiny, is_random=False)
    with pytest.raises(ValueError, match="already"):
        add_lora(model, rank=2, alpha=2, targets=("q_proj",), seed=0)
