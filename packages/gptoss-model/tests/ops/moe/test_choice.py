import pytest
from gptoss_model.ops.moe import MOE_STRATEGIES, choose_moe_strategy


@pytest.mark.parametrize("is_packed", [True, False])
def test_one_token_gathers_and_a_prompt_tiles(is_packed):
    assert choose_moe_strategy("auto", tokens=1, is_packed=is_packed).name == "gathered"
    assert choose_moe_strategy("auto", tokens=128, is_packed=is_packed).name == "tiled"


def test_choice_says_why():
    assert "128 tokens with packed experts" in choose_moe_strategy("auto", tokens=128, is_packed=True).reason


@pytest.mark.parametrize("name", MOE_STRATEGIES)
def test_a_name_is_taken_at_its_word(name):
    choice = choose_moe_strategy(name, tokens=1000, is_packed=True)
    assert choice.name == name
    assert "by name" in choice.reason


def test_unknown_strategy_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"there are auto, gathered, tiled; did you mean 'gathered'\?"):
        choose_moe_strategy("gather", tokens=1, is_packed=False)
