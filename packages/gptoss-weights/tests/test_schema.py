"""The schema states every parameter once, at the published sizes."""

import pytest
from gptoss_weights import (
    GPT_OSS_20B,
    GPT_OSS_120B,
    GptOssConfig,
    axis_sizes,
    count_active_parameters,
    count_parameters,
    tensor_specs,
)
from gptoss_weights.testing import tiny_config


@pytest.mark.parametrize(
    ("config", "total", "active"),
    [(GPT_OSS_20B, 20_914_757_184, 3.61), (GPT_OSS_120B, 116_829_156_672, 5.13)],
)
def test_parameter_counts_of_the_published_models(config: GptOssConfig, total: int, active: float) -> None:
    assert count_parameters(config) == total
    # openai/gpt-oss model card, table 1, in billions
    assert round(count_active_parameters(config) / 1e9, 2) == active


def test_every_axis_has_its_letter_and_extent() -> None:
    config = tiny_config()
    sizes = axis_sizes(config)
    for spec in tensor_specs(config).values():
        assert spec.shape == tuple(sizes[axis] for axis in spec.axes)


def test_names_shapes_and_layers_of_one_layer() -> None:
    specs = tensor_specs(tiny_config())
    assert specs["model.layers.3.mlp.experts.gate_up_proj"].shape == (7, 128, 96)
    assert specs["model.layers.3.mlp.experts.gate_up_proj"].is_expert_matrix
    assert specs["model.layers.3.mlp.experts.down_proj"].shape == (7, 96, 64)
    assert not specs["model.layers.3.mlp.experts.down_proj_bias"].is_expert_matrix
    assert specs["model.layers.3.self_attn.k_proj.weight"].shape == (90, 96)
    assert specs["model.layers.3.self_attn.o_proj.weight"].shape == (96, 180)
    assert specs["model.layers.3.self_attn.sinks"].layer == 3
    assert specs["lm_head.weight"].layer is None
    assert len(specs) == 3 + 4 * 17


def test_order_is_that_of_the_forward_pass() -> None:
    names = list(tensor_specs(tiny_config()))
    assert names[0] == "model.embed_tokens.weight"
    assert names[-2:] == ["model.norm.weight", "lm_head.weight"]
    assert names.index("model.layers.1.mlp.router.weight") < names.index("model.layers.2.self_attn.q_proj.weight")
