import jax
import pytest
from gptoss_model import strategy_names
from gptoss_model.ops.moe import MOE_STRATEGIES, check_moe_strategy, choose_moe_strategy, list_moe_strategies
from gptoss_weights import MissingDependencyError


@pytest.fixture(params=["cpu", "gpu", "tpu"])
def platform(request, monkeypatch) -> str:
    monkeypatch.setattr("gptoss_model.ops.moe.choice.current_platform", lambda: request.param)
    return request.param


@pytest.mark.parametrize("is_packed", [True, False])
def test_one_token_gathers_and_a_prompt_does_not(platform, is_packed):
    assert choose_moe_strategy("auto", tokens=1, is_packed=is_packed).name == "gathered"
    assert choose_moe_strategy("auto", tokens=128, is_packed=is_packed).name != "gathered"


def test_prompt_tiles_packed_experts_and_decoded_ones_have_a_kernel_on_accelerators(platform):
    assert choose_moe_strategy("auto", tokens=128, is_packed=True).name == "tiled"
    kernel = {"cpu": "tiled", "gpu": "ragged", "tpu": "megablox"}[platform]
    assert choose_moe_strategy("auto", tokens=128, is_packed=False).name == kernel


def test_choice_says_why(platform):
    reason = choose_moe_strategy("auto", tokens=128, is_packed=True).reason
    most = 20 if platform == "cpu" else 1
    assert f"on {platform.upper()}, a step of 128 tokens with packed experts: beyond {most}, " in reason


def test_choice_can_always_run_here(platform):
    runnable = {strategy.name for strategy in list_moe_strategies() if strategy.available}
    chosen = {
        choose_moe_strategy("auto", tokens=tokens, is_packed=is_packed).name
        for tokens in (1, 2, 1000)
        for is_packed in (True, False)
    }
    assert chosen <= runnable


@pytest.mark.parametrize("name", [name for name in MOE_STRATEGIES if name != "megablox"])
def test_a_name_is_taken_at_its_word(name):
    choice = choose_moe_strategy(name, tokens=1000, is_packed=True)
    assert choice.name == name
    assert "by name" in choice.reason


def test_unknown_strategy_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"there are auto, gathered, tiled, .*; did you mean 'gathered'\?"):
        choose_moe_strategy("gather", tokens=1, is_packed=False)


@pytest.mark.skipif(jax.default_backend() == "tpu", reason="a TPU runs it")
def test_megablox_declines_off_tpu_and_names_the_interpreter():
    with pytest.raises(MissingDependencyError, match=r"TPUs only, and JAX runs on CPU; 'megablox-interpret' "):
        check_moe_strategy("megablox")
    [megablox] = [strategy for strategy in list_moe_strategies() if strategy.name == "megablox"]
    assert not megablox.available
    assert "TPUs only" in megablox.reason


def test_capacity_factor_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"capacity_factor=1.25 is refused: .* every strategy here is dropless"):
        check_moe_strategy("auto", capacity_factor=1.25)


def test_every_name_is_listed_once_with_a_reason():
    listed = list_moe_strategies()
    assert ["auto", *(strategy.name for strategy in listed)] == list(strategy_names.MOE_NAMES)
    assert list(MOE_STRATEGIES) == [strategy.name for strategy in listed]
    assert all(strategy.reason for strategy in listed)
