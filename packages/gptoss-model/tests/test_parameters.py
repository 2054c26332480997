import jax.numpy as jnp
import pytest
from flax import nnx
from gptoss_model import GptOss, abstract_model, canonical_names
from gptoss_weights import tensor_specs
from gptoss_weights.testing import tiny_config


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("experts", ["mxfp4", "decoded"])
def test_every_tensor_of_the_schema_stands_in_the_model_under_its_name_and_shape(experts, scan_layers):
    config = tiny_config()
    views = canonical_names(abstract_model(config, experts=experts, scan_layers=scan_layers))
    assert {name: view.shape for name, view in views.items()} == {
        name: spec.shape for name, spec in tensor_specs(config).items()
    }


def test_scanned_parameters_are_stacks_of_the_even_and_of_the_odd_layers():
    asked = {}

    def source(spec):
        asked[spec.tensors] = spec
        return jnp.zeros(spec.shape)

    model = nnx.eval_shape(lambda: GptOss(tiny_config(num_hidden_layers=6), source, scan_layers=True))
    layers = {spec.shape[0]: spec for spec in asked.values() if spec.is_stacked}
    assert set(layers) == {3}
    [odd] = [spec for spec in asked.values() if spec.name.startswith("model.layers.1.self_attn.sinks")]
    assert [tensor.layer for tensor in odd.tensors] == [1, 3, 5]
    assert (odd.axes, odd.shape) == (("L", "N"), (3, model.config.num_attention_heads))
    assert not any(spec.is_stacked for spec in asked.values() if spec.tensors[0].layer is None)


def test_a_gradient_is_found_under_the_canonical_name_of_its_parameter():
    model = abstract_model(tiny_config(), experts="decoded", scan_layers=True)
    names = canonical_names(nnx.state(model, nnx.Param))
    assert set(names) == set(tensor_specs(tiny_config()))
    assert names["model.layers.3.self_attn.sinks"].row == 1


@pytest.mark.parametrize("scan_layers", [False, True])
def test_packed_experts_are_no_trainable_parameters(scan_layers):
    model = abstract_model(tiny_config(), scan_layers=scan_layers)
    packed = {name for name, view in canonical_names(model).items() if view.is_packed}
    assert packed == {name for name, spec in tensor_specs(tiny_config()).items() if spec.is_expert_matrix}
    assert not any("gate_up_proj" in path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param)))


def test_source_with_a_wrong_shape_is_refused_by_name():
    with pytest.raises(ValueError, match=r"model.embed_tokens.weight must have the shape \(211, 96\), not \(2, 3\)"):
        GptOss(tiny_config(), lambda spec: jnp.zeros((2, 3)))


def test_an_odd_number_of_layers_cannot_be_scanned_in_pairs():
    with pytest.raises(
        ValueError, match=r"but 5 is an odd number of layers: 2 × 2 \+ 1; do without scan_layers \(--no-scan-layers\)"
    ):
        abstract_model(tiny_config(num_hidden_layers=5), scan_layers=True)
