import pytest
from gptoss_model import MeshRules
from gptoss_model.sharding.partitioning import Partitioning
from gptoss_weights import GPT_OSS_20B, GPT_OSS_120B, tensor_specs
from gptoss_weights.testing import tiny_config
from jax.sharding import PartitionSpec as P

ALL = MeshRules(data=2, fsdp=2, expert=2, tensor=2)


def partitions(config, rules, experts="mxfp4"):
    partitioning = Partitioning.of(config, rules, experts=experts)
    return {name: partitioning(spec) for name, spec in tensor_specs(config).items()}


def test_every_matrix_is_split_over_fsdp_and_over_tensor_or_expert():
    found = partitions(GPT_OSS_20B, ALL)
    layer, experts = "model.layers.5.self_attn.", "model.layers.5.mlp.experts."
    assert found["model.embed_tokens.weight"] == found["lm_head.weight"] == P("tensor", "fsdp")
    assert found[f"{layer}q_proj.weight"] == found[f"{layer}k_proj.weight"] == P("tensor", "fsdp")
    assert found[f"{layer}o_proj.weight"] == P("fsdp", "tensor")
    assert found[f"{layer}q_proj.bias"] == found[f"{layer}sinks"] == P("tensor")
    assert found[f"{experts}gate_up_proj"] == P("expert", ("tensor", "fsdp"), None)
    assert found[f"{experts}gate_up_proj_bias"] == P("expert", "tensor")
    assert found[f"{experts}down_proj"] == P("expert", "fsdp", "tensor")
    assert found[f"{experts}down_proj_bias"] == P("expert", "fsdp")
    for small in ("model.norm.weight", f"{layer}o_proj.bias", "model.layers.5.mlp.router.weight"):
        assert not any(found[small]), small


def test_mesh_axes_of_size_one_split_nothing():
    assert not any(axis for partition in partitions(GPT_OSS_20B, MeshRules(data=8)).values() for axis in partition)


@pytest.mark.parametrize("config", [GPT_OSS_20B, GPT_OSS_120B], ids=["20b", "120b"])
@pytest.mark.parametrize("experts", ["mxfp4", "decoded"])
@pytest.mark.parametrize("rules", [f"{axis}={n}" for axis in ("fsdp", "expert", "tensor") for n in (2, 4, 8)])
def test_published_geometries_divide_by_every_axis_up_to_eight(config, experts, rules):
    Partitioning.of(config, MeshRules.parse(rules), experts=experts)


def test_tensor_splits_experts_where_a_part_of_the_ffn_would_cut_a_block():
    rules, name = MeshRules(expert=2, tensor=4), "model.layers.0.mlp.experts.down_proj"
    assert partitions(GPT_OSS_20B, rules)[name] == P(("expert", "tensor"), None, None)
    assert partitions(GPT_OSS_20B, rules, "decoded")[name] == P("expert", None, "tensor")


def test_what_does_not_divide_is_refused_with_the_numbers_all_at_once():
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the words follow
        Partitioning.of(tiny_config(), MeshRules(fsdp=5, expert=2, tensor=2), experts="mxfp4")
    assert str(refusal.value).splitlines() == [
        "the mesh fsdp=5,expert=2,tensor=2 does not divide the model:",
        "  model.embed_tokens.weight: axis V of 211 over tensor=2; 1 or 211 would divide",
        "  model.embed_tokens.weight: axis D of 96 over fsdp=5; 4 or 6 would divide",
        "  model.layers.*.self_attn.k_proj.weight: axis KH of 5 kv heads over tensor=2; 1 or 5 would divide",
        "  model.layers.*.mlp.experts.gate_up_proj: axis E of 7 over expert=2; 1 or 7 would divide",
        "  model.layers.*.mlp.experts.gate_up_proj: axis 2F of 128 over tensor=2 × fsdp=5; 8 or 16 would divide",
    ]


def test_experts_that_divide_neither_by_ffn_nor_by_number_are_refused_with_both():
    config = tiny_config(num_experts=6, num_attention_heads=12, num_key_value_heads=4, vocab_size=212)
    words = (
        r"experts.gate_up_proj: axis E of 6 over tensor=4; 3 or 6 would divide\n"
        r"  \(the experts are split over tensor=4 because axis F of 64, 2 MXFP4 blocks of 32, does not divide by it; "
        r"2 would divide; decoded experts have no blocks\)"
    )
    with pytest.raises(ValueError, match=words):
        Partitioning.of(config, MeshRules(tensor=4), experts="mxfp4")
    assert Partitioning.of(config, MeshRules(tensor=4), experts="decoded").ffn_axes == ("tensor",)


def test_more_tensor_parts_than_kv_heads_are_refused():
    with pytest.raises(ValueError, match="axis KH of 8 kv heads over tensor=16; 8 would divide"):
        Partitioning.of(GPT_OSS_20B, MeshRules(tensor=16), experts="decoded")
