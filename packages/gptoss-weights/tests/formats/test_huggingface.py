"""Hugging Face's layout: canonical names, experts in two halves, shards in the published order."""

from gptoss_weights import tensor_specs
from gptoss_weights.formats.huggingface import huggingface_tensors, is_huggingface_name
from gptoss_weights.testing import tiny_config


def test_names_are_canonical_but_for_the_halves_of_the_experts() -> None:
    names = {tensor.name for tensor in huggingface_tensors(tiny_config())}
    expected = set()
    for spec in tensor_specs(tiny_config()).values():
        expected |= {f"{spec.name}_blocks", f"{spec.name}_scales"} if spec.is_expert_matrix else {spec.name}
    assert names == expected
    assert all(is_huggingface_name(name) for name in names)


def test_shards_fill_in_the_order_of_the_sorted_original_names() -> None:
    names = [tensor.name for tensor in huggingface_tensors(tiny_config(num_hidden_layers=12))]
    assert names[:6] == [
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.self_attn.o_proj.bias",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.k_proj.bias",
        "model.layers.0.self_attn.v_proj.bias",
    ]
    assert names[-3:] == ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    first_of = [names.index(f"model.layers.{layer}.input_layernorm.weight") for layer in (0, 1, 10, 11, 2, 9)]
    assert first_of == sorted(first_of)
