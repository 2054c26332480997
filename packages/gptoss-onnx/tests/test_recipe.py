import pytest
from gptoss_onnx import OptionError, StaticShape
from gptoss_onnx.recipe import choose_recipe
from gptoss_weights import dequantized, random_checkpoint
from gptoss_weights.testing import tiny_config


@pytest.fixture(scope="module")
def packed():
    return random_checkpoint(tiny_config(head_dim=32), seed=1)


@pytest.fixture(scope="module")
def plain(packed):
    return dequantized(packed)


@pytest.mark.parametrize(
    ("profile", "experts", "dense"),
    [("portable", "mxfp4", "stored"), ("fast", "int8", "float32"), ("cuda", "mxfp4", "float32")],
)
def test_each_profile_has_exact_defaults(profile, experts, dense, packed):
    recipe = choose_recipe(packed, profile=profile)
    assert (recipe.experts, recipe.dense, recipe.is_exact) == (experts, dense, True)
    assert recipe.has_turbo == (profile == "fast")


def test_plain_experts_stay_plain(plain):
    assert choose_recipe(plain).experts == "stored"
    assert choose_recipe(plain, profile="fast").experts == "float32"


@pytest.mark.parametrize("options", [{"experts": "mxfp4"}, {"experts": "int8"}, {"profile": "cuda"}], ids=str)
def test_plain_experts_are_not_rounded_behind_ones_back(options, plain):
    with pytest.raises(OptionError, match=r"not packed as MXFP4, and .* would round them.*gptoss-weights convert"):
        choose_recipe(plain, **{"profile": "fast"} | options)


@pytest.mark.parametrize(("head_dim", "attention"), [(16, "grouped-query"), (48, "grouped-query"), (24, "manual")])
def test_grouped_attention_is_for_heads_that_it_takes(head_dim, attention):
    recipe = choose_recipe(random_checkpoint(tiny_config(head_dim=head_dim), seed=0), profile="fast")
    assert recipe.attention == attention
    assert bool(recipe.remarks) == (attention == "manual")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"profile": "quick"}, "no profile is called quick; there are portable, fast, cuda"),
        ({"profile": "fast", "dense": "stored"}, "profile fast takes dense float32 or int8 or int4, not stored"),
        ({"profile": "fast", "static": StaticShape(batch=1, length=4)}, "only profile portable has static shapes"),
    ],
)
def test_what_does_not_go_together_is_refused(options, words, packed):
    with pytest.raises(OptionError, match=words):
        choose_recipe(packed, **options)


@pytest.mark.parametrize("dense", ["int8", "int4"])
def test_rounded_matrices_are_not_exact(dense, packed):
    assert not choose_recipe(packed, profile="fast", dense=dense).is_exact
