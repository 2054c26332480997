"""Completions read back: messages, what streams of them, and what is no Harmony."""

import contextlib

import pytest
from gptoss_weights import ConversationError
from gptoss_weights.text.harmony import (
    ANALYSIS,
    COMMENTARY,
    FINAL,
    JSON_CONTENT_TYPE,
    HarmonyEncoding,
    Message,
    Role,
    StreamableParser,
    StreamState,
    parse_completion,
)
from hypothesis import given
from hypothesis import strategies as st

ANSWER = Message(Role.ASSISTANT, "2 + 2 = 4 🙂", channel=FINAL)
COMPLETION = (
    "<|channel|>analysis<|message|>Simple.<|end|><|start|>assistant<|channel|>final<|message|>2 + 2 = 4 🙂<|return|>"
)


def parse(encoding: HarmonyEncoding, text: str, role: Role | None = Role.ASSISTANT, **options) -> list[Message]:
    return parse_completion(encoding, encoding.tokenizer.encode(text), role, **options)


def test_completion_is_its_messages(encoding: HarmonyEncoding) -> None:
    assert parse(encoding, COMPLETION) == [Message(Role.ASSISTANT, "Simple.", channel=ANALYSIS), ANSWER]


def test_stop_token_may_be_missing(encoding: HarmonyEncoding) -> None:
    assert parse(encoding, COMPLETION.removesuffix("<|return|>"))[-1] == ANSWER


def test_deltas_are_the_text_and_come_with_their_channel(encoding: HarmonyEncoding) -> None:
    parser = StreamableParser(encoding)
    said: dict[str | None, str] = {}
    for token in encoding.tokenizer.encode(COMPLETION):
        delta = parser.process(token)
        assert delta == parser.last_content_delta
        if delta is not None:
            said[parser.current_channel] = said.get(parser.current_channel, "") + delta
            assert parser.current_content == said[parser.current_channel]
    assert said == {ANALYSIS: "Simple.", FINAL: "2 + 2 = 4 🙂"}
    assert parser.state is StreamState.EXPECT_START


def test_character_appears_with_its_last_byte(encoding: HarmonyEncoding) -> None:
    emoji = encoding.tokenizer.encode("🙂")
    assert len(emoji) == 4, "the demo's tokenizer has no merge for it"
    parser = StreamableParser(encoding)
    for token in encoding.tokenizer.encode("<|message|>"):
        parser.process(token)
    assert [parser.process(token) for token in emoji] == [None, None, None, "🙂"]


def test_half_a_character_at_the_end_is_replaced(encoding: HarmonyEncoding) -> None:
    tokens = encoding.tokenizer.encode("<|message|>a🙂")[:-1]
    assert parse_completion(encoding, tokens) == [Message(Role.ASSISTANT, "a\ufffd")]


def test_half_a_character_does_not_reach_the_next_message(encoding: HarmonyEncoding) -> None:
    first = encoding.tokenizer.encode("<|message|>🙂")[:-1]
    tokens = first + encoding.tokenizer.encode("<|end|><|start|>assistant<|message|>Hi<|end|>")
    assert [message.text for message in parse_completion(encoding, tokens)] == ["\ufffd", "Hi"]


def test_id_outside_the_vocabulary_is_replaced_and_reading_goes_on(encoding: HarmonyEncoding) -> None:
    tokens = encoding.tokenizer.encode("<|message|>a")
    tokens += [10**6, *encoding.tokenizer.encode("b<|end|>")]
    assert parse_completion(encoding, tokens) == [Message(Role.ASSISTANT, "a\ufffdb")]


def test_header_is_known_when_it_is_whole(encoding: HarmonyEncoding) -> None:
    parser = StreamableParser(encoding)
    assert (parser.state, parser.current_role, parser.current_channel) == (StreamState.HEADER, Role.ASSISTANT, None)
    for token in encoding.tokenizer.encode("<|channel|>commentary to=functions.f <|constrain|>json"):
        assert parser.process(token) is None
        assert (parser.current_channel, parser.current_recipient, parser.current_content_type) == (None, None, None)
    parser.process(encoding.tokenizer.encode("<|message|>")[0])
    assert parser.state is StreamState.CONTENT
    assert parser.current_channel == COMMENTARY
    assert parser.current_recipient == "functions.f"
    assert parser.current_content_type == JSON_CONTENT_TYPE


def test_special_token_within_a_content_is_its_text(encoding: HarmonyEncoding) -> None:
    assert parse(encoding, "<|message|>a<|channel|>b<|start|>c<|end|>") == [
        Message(Role.ASSISTANT, "a<|channel|>b<|start|>c")
    ]


def test_something_between_messages_is_refused(encoding: HarmonyEncoding) -> None:
    with pytest.raises(ConversationError, match=r"token 2: a message does not begin with <\|start\|>.*'x'"):
        parse(encoding, "<|message|><|end|>x")


def test_end_within_a_header_is_refused_strictly_or_not(encoding: HarmonyEncoding) -> None:
    for strict in (True, False):
        with pytest.raises(ConversationError, match=r"end within a message's header; found '<\|channel\|>analysis'"):
            parse(encoding, "<|channel|>analysis", strict=strict)


def test_stop_within_a_header_is_refused_strictly_and_is_content_otherwise(encoding: HarmonyEncoding) -> None:
    broken = "<|channel|>commentary Hello there<|end|>"
    with pytest.raises(ConversationError):
        parse(encoding, broken)
    assert parse(encoding, broken, strict=False) == [Message(Role.ASSISTANT, "Hello there", channel=COMMENTARY)]
    assert parse(encoding, "<|end|>", strict=False) == []


def test_header_that_is_no_text_is_refused(encoding: HarmonyEncoding) -> None:
    half = encoding.tokenizer.encode("🙂")[:1]
    with pytest.raises(ConversationError, match="header is not UTF-8"):
        parse_completion(encoding, half + encoding.tokenizer.encode("<|message|>"))


names = st.text("abcXYZ._-0123", min_size=1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
replies = st.builds(
    Message,
    st.just(Role.ASSISTANT),
    texts,
    recipient=names.map("functions.{}".format),
    channel=st.sampled_from([ANALYSIS, COMMENTARY, FINAL]),
    content_type=st.sampled_from([None, "code", JSON_CONTENT_TYPE]),
)
answers = st.builds(
    Message, st.just(Role.ASSISTANT), texts, channel=st.sampled_from([None, ANALYSIS, COMMENTARY, FINAL])
)
questions = st.builds(Message, st.sampled_from([Role.USER, Role.DEVELOPER, Role.SYSTEM]), texts)
results = st.builds(Message, st.just(Role.TOOL), texts, names.map("t.{}".format), st.just("assistant"), names)


@given(conversation=st.lists(st.one_of(replies, answers, questions, results)))
def test_what_is_rendered_is_read_back(encoding: HarmonyEncoding, conversation: list[Message]) -> None:
    tokens = encoding.render_conversation(conversation, auto_drop_analysis=False)
    assert parse_completion(encoding, tokens, role=None) == conversation


@given(reply=st.one_of(replies, answers))
def test_a_reply_is_read_back_behind_its_prompt(encoding: HarmonyEncoding, reply: Message) -> None:
    opening = len(encoding.render_conversation_for_completion([]))
    assert parse_completion(encoding, encoding.render_message(reply)[opening:]) == [reply]


@given(tokens=st.lists(st.integers(0, 512)), strict=st.booleans())
def test_any_tokens_are_messages_or_refused_in_a_sentence(
    encoding: HarmonyEncoding, tokens: list[int], strict: bool
) -> None:
    with contextlib.suppress(ConversationError):  # every other error fails this test
        parse_completion(encoding, tokens, strict=strict)
