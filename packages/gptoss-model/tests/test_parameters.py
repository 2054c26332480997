import jax.numpy as jnp
import pytest
from flax import nnx
from gptoss_model import GptOss, abstract_model, canonical_names
from gptoss_weights import tensor_specs
from gptoss_weights.testing import tiny_config


@pytest.mark.parametrize("experts", ["mxfp4", "decoded"])
def test_paths_and_shapes_of_the_state_are_those_of_the_schema(experts):
    config = tiny_config()
    shapes = {name: view.shape for name, view in canonical_names(abstract_model(config, experts=experts)).items()}
    assert shapes == {name: spec.shape for name, spec in tensor_specs(config).items()}


def test_packed_experts_are_no_trainable_parameters():
    model = abstract_model(tiny_config())
    packed = {name for name, view in canonical_names(model).items() if view.is_packed}
    assert packed == {name for name, spec in tensor_specs(tiny_config()).items() if spec.is_expert_matrix}
    assert not any("gate_up_proj" in path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param)))


def test_source_with_a_wrong_shape_is_refused_by_name():
    with pytest.raises(ValueError, match=r"model.embed_tokens.weight must have the shape \(211, 96\), not \(2, 3\)"):
        GptOss(tiny_config(), lambda spec: jnp.zeros((2, 3)))
