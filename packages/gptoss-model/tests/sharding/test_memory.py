import jax
import pytest
from gptoss_model import abstract_model, load_model, make_mesh
from gptoss_model.sharding.memory import memory_per_device
from gptoss_weights import GPT_OSS_20B, GPT_OSS_120B, count_parameters


def bytes_on(device, tree):
    return sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(tree)
        for shard in leaf.addressable_shards
        if shard.device == device
    )


@pytest.mark.parametrize("experts", ["mxfp4", "decoded"])
@pytest.mark.parametrize("rules", ["data=2,fsdp=2,tensor=2", "fsdp=2,expert=2,tensor=2", "expert=2,tensor=4"])
def test_plan_is_what_every_device_then_holds(splittable, rules, experts):
    model = load_model(splittable, experts=experts, mesh=make_mesh(rules))
    cache = model.init_cache(8, 32)
    planned = memory_per_device(splittable.config, rules, batch=8, length=32, experts=experts)
    for device in jax.devices():
        assert planned.experts + planned.other_parameters == bytes_on(device, model)
        assert planned.kv_cache == bytes_on(device, cache)


@pytest.mark.parametrize(("experts", "scan_layers"), [("mxfp4", True), ("decoded", False)])
def test_abstract_model_has_the_structure_and_the_shardings_of_the_loaded_one(splittable, experts, scan_layers):
    options = {"experts": experts, "scan_layers": scan_layers, "mesh": make_mesh("fsdp=2,expert=2,tensor=2")}
    real, abstract = load_model(splittable, **options), abstract_model(splittable.config, **options)
    assert jax.tree.structure(real) == jax.tree.structure(abstract)
    for value, shape in zip(jax.tree.leaves(real), jax.tree.leaves(abstract), strict=True):
        assert (value.shape, value.dtype, value.sharding) == (shape.shape, shape.dtype, shape.sharding)


def test_one_device_needs_the_whole_published_model():
    planned = memory_per_device(GPT_OSS_20B, "data=1", batch=1, length=1)
    norms = (2 * GPT_OSS_20B.num_hidden_layers + 1) * GPT_OSS_20B.hidden_size
    assert planned.experts + planned.other_parameters == 13_761_264_768 + 2 * norms  # norms in f32, not bf16
    assert planned.gathered == 0
    decoded = memory_per_device(GPT_OSS_120B, "data=1", batch=1, length=1, experts="decoded")
    norms = (2 * GPT_OSS_120B.num_hidden_layers + 1) * GPT_OSS_120B.hidden_size
    assert decoded.experts + decoded.other_parameters == 2 * (count_parameters(GPT_OSS_120B) + norms)


def test_fsdp_gathers_the_largest_layer_or_the_unembedding():
    V, D = GPT_OSS_20B.vocab_size, GPT_OSS_20B.hidden_size
    assert memory_per_device(GPT_OSS_20B, "fsdp=8", batch=8, length=1).gathered == 2 * V * D
    decoded = memory_per_device(GPT_OSS_20B, "fsdp=8", batch=8, length=1, experts="decoded").gathered
    assert 2 * V * D < decoded < 1.1 * (2 * 32 * 3 * D * D)


def test_cache_is_split_by_the_batch_axes_that_divide_it_and_by_heads():
    whole = memory_per_device(GPT_OSS_20B, "data=1", batch=4, length=4096).kv_cache
    for rules, parts in (("data=4", 4), ("expert=2,tensor=4", 8), ("data=8", 1), ("data=2,fsdp=8", 2)):
        assert memory_per_device(GPT_OSS_20B, rules, batch=4, length=4096).kv_cache == pytest.approx(
            whole / parts, rel=1e-6
        )
