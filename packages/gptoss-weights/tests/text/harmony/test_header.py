"""Headers read back: in whichever order a model writes them."""

import pytest
from gptoss_weights import ConversationError
from gptoss_weights.text.harmony import Role
from gptoss_weights.text.harmony.header import MessageHeader, parse_header, parse_unfinished_header

CALL = MessageHeader(Role.ASSISTANT, None, "functions.f", "commentary", "<|constrain|>json")


@pytest.mark.parametrize(
    "text",
    [
        " to=functions.f<|channel|>commentary <|constrain|>json",
        " to=functions.f<|channel|>commentary<|constrain|>json",
        "<|channel|>commentary to=functions.f <|constrain|>json",
        "<|channel|>commentary to=functions.f<|constrain|>json",
        "<|channel|>commentary\tto=functions.f \n <|constrain|>json ",
        "assistant<|channel|>commentary to=functions.f <|constrain|>json",
    ],
)
def test_call_is_read_in_every_order_and_spacing(text: str) -> None:
    assert parse_header(text, Role.ASSISTANT) == CALL
    if not text.startswith("assistant"):
        assert parse_header(f"assistant{text}", None) == CALL


def test_one_word_is_the_recipient_and_the_last_of_two_the_type() -> None:
    assert parse_header("<|channel|>analysis python", Role.ASSISTANT).recipient == "python"
    both = parse_header("<|channel|>analysis python code", Role.ASSISTANT)
    assert (both.recipient, both.content_type) == ("python", "code")


def test_unknown_author_with_a_recipient_is_a_tool() -> None:
    header = parse_header("browser.search to=assistant<|channel|>analysis", None)
    assert header == MessageHeader(Role.TOOL, "browser.search", "assistant", "analysis")


def test_nothing_but_a_role_is_a_header() -> None:
    for role in Role:
        name = "tool" if role is Role.TOOL else None
        assert parse_header(str(role), None) == MessageHeader(role, name)
        assert parse_header("", role) == MessageHeader(role)


def test_no_break_space_ends_a_channel_but_separates_no_words() -> None:
    header = parse_header("<|channel|>final\u00a0a\u00a0b", Role.ASSISTANT)
    assert (header.channel, header.recipient) == ("final", "a\u00a0b")


@pytest.mark.parametrize(
    ("text", "role", "sentence"),
    [
        ("", None, r"a message's header names no role"),
        ("robot", None, r"'robot' is no role; expected system, .*, tool, or a tool and its recipient"),
        ("<|channel|>", Role.ASSISTANT, r"no channel follows <\|channel\|>"),
        ("<|channel|> final", Role.ASSISTANT, r"no channel follows"),
        ("a b c", Role.ASSISTANT, r"'a b c': a message's header says too much; found 'a'"),
    ],
)
def test_what_is_no_header_is_refused(text: str, role: Role | None, sentence: str) -> None:
    with pytest.raises(ConversationError, match=sentence):
        parse_header(text, role)


def test_unfinished_header_leaves_its_words_as_content() -> None:
    header, text = parse_unfinished_header("<|channel|>commentary Hello  you", Role.ASSISTANT)
    assert (header, text) == (MessageHeader(Role.ASSISTANT, channel="commentary"), "Hello you")
