import click
import pytest
from gptoss_weights.token_ids import parse_token_ids, require_known_tokens, token_ids_callback


@pytest.mark.parametrize(("text", "ids"), [("0", [0]), ("1,2,3", [1, 2, 3]), (" 7 , 007", [7, 7])])
def test_ids_stand_between_commas(text, ids):
    assert parse_token_ids(text) == ids


@pytest.mark.parametrize("text", ["", ",", "1,,2", "1,", ",1", "1 2", "1,x", "1,-2", "+1", "1.5", "²", "٣", "1_0"])
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="is not a token id; write them as 1,2,3"):
        parse_token_ids(text)


def test_a_number_of_5000_digits_is_refused_in_few_words():
    with pytest.raises(ValueError, match=r"^'9{20}…' is not a token id") as refused:
        parse_token_ids("1," + "9" * 5000)
    assert len(str(refused.value)) < 100


def test_as_a_callback_it_is_a_usage_error_that_names_the_option():
    @click.command()
    @click.option("--tokens", callback=token_ids_callback)
    def command(tokens: list[int] | None) -> list[int] | None:
        return tokens

    assert command.main(["--tokens", "1,2"], standalone_mode=False) == [1, 2]
    assert command.main([], standalone_mode=False) is None
    with pytest.raises(click.UsageError) as refused:
        command.main(["--tokens", "1,,2"], standalone_mode=False)
    assert refused.value.format_message() == ("Invalid value for '--tokens': '' is not a token id; write them as 1,2,3")


def test_a_token_outside_the_vocabulary_is_named_with_its_place():
    require_known_tokens([0, 9], 10)
    with pytest.raises(click.UsageError) as refused:
        require_known_tokens([3, 10], 10)
    message = "Invalid value for '--tokens': token id 10 at place 1 is not in the vocabulary, 0 … 9"
    assert refused.value.format_message() == message
