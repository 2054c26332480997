import jax
import pytest
from gptoss_model import strategy_names
from gptoss_model.ops.attention import (
    ATTENTION_STRATEGIES,
    check_attention_strategy,
    choose_attention_strategy,
    list_attention_strategies,
)
from gptoss_weights import MissingDependencyError


@pytest.fixture(params=["cpu", "gpu", "tpu"])
def platform(request, monkeypatch) -> str:
    monkeypatch.setattr("gptoss_model.ops.attention.choice.current_platform", lambda: request.param)
    return request.param


def test_a_few_tokens_take_one_product(platform):
    choice = choose_attention_strategy("auto", queries=5, keys=133)
    assert choice.name == "reference"
    assert f"on {platform.upper()}, 5 queries and 133 rows of keys: up to 1024 scores" in choice.reason


def test_prompt_goes_by_blocks_and_on_a_tpu_through_the_kernel(platform):
    expected = "splash" if platform == "tpu" else "blockwise"
    assert choose_attention_strategy("auto", queries=1024, keys=1024).name == expected


def test_step_with_a_cache_goes_by_blocks_everywhere(platform):
    assert choose_attention_strategy("auto", queries=1, keys=131072).name == "blockwise"
    assert choose_attention_strategy("auto", queries=512, keys=131072).name == "blockwise"


@pytest.mark.parametrize("name", ["reference", "blockwise", "splash-interpret"])
def test_a_name_is_taken_at_its_word(name):
    choice = choose_attention_strategy(name, queries=7, keys=7)
    assert choice.name == name
    assert "by name" in choice.reason


def test_kernel_leaves_a_cache_to_blockwise_and_says_so():
    choice = choose_attention_strategy("splash-interpret", queries=1, keys=640)
    assert choice.name == "blockwise"
    assert choice.reason == "'splash-interpret' was asked for, but knows no cache: 1 queries see 640 rows of keys"


def test_unknown_strategy_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"no attention strategy is called 'blocks'; .*did you mean 'blockwise'\?"):
        check_attention_strategy("blocks")


@pytest.mark.skipif(jax.default_backend() == "tpu", reason="a TPU runs it")
def test_splash_declines_off_tpu_and_names_the_interpreter():
    with pytest.raises(MissingDependencyError, match=r"TPUs only, and JAX runs on CPU; 'splash-interpret' "):
        check_attention_strategy("splash")


def test_kernel_without_sinks_is_declined(monkeypatch):
    monkeypatch.setattr("gptoss_model.ops.attention.choice._splash_obstacle", lambda: "it takes no sinks")
    listed = {strategy.name: strategy for strategy in list_attention_strategies()}
    assert not listed["splash-interpret"].available
    assert listed["splash"].reason == "it takes no sinks"
    assert listed["blockwise"].available


def test_every_name_is_listed_once_with_a_reason():
    listed = list_attention_strategies()
    assert ["auto", *(strategy.name for strategy in listed)] == list(strategy_names.ATTENTION_NAMES)
    assert list(ATTENTION_STRATEGIES) == [strategy.name for strategy in listed]
    assert all(strategy.reason for strategy in listed)
