"""Token for token what the official code said: openai-harmony, and the published template and tokenizer."""

import contextlib
from typing import Any

import pytest
from gptoss_weights import ConversationError
from gptoss_weights.text.harmony import HarmonyEncoding, Message, Role, StreamableParser, parse_completion


def test_conversation_is_rendered_as_recorded(
    published: HarmonyEncoding, cases: dict[str, Any], goldens: dict[str, Any], conversation_case: str
) -> None:
    messages = cases["CONVERSATIONS"][conversation_case]
    golden = goldens["conversations"][conversation_case]
    assert published.decode(published.render_conversation(messages)) == published.decode(golden["conversation"])
    assert published.render_conversation(messages) == golden["conversation"]
    assert published.render_conversation(messages, auto_drop_analysis=False) == golden["kept"]
    assert published.render_conversation_for_completion(messages) == golden["prompt"]
    assert published.render_conversation_for_training(messages).tokens == golden["example"]


@pytest.mark.parametrize("strictness", ["strict", "lenient"])
def test_completion_is_read_as_recorded(
    published: HarmonyEncoding, goldens: dict[str, Any], completion_case: str, strictness: str
) -> None:
    golden = goldens["completions"][completion_case]
    is_strict = strictness == "strict"
    if golden[strictness] is None:
        with pytest.raises(ConversationError):
            parse_completion(published, golden["tokens"], strict=is_strict)
        return
    messages = parse_completion(published, golden["tokens"], strict=is_strict)
    assert messages == [message_of(recorded) for recorded in golden[strictness]]


def test_streamed_text_is_the_text_of_the_messages(
    published: HarmonyEncoding, goldens: dict[str, Any], completion_case: str
) -> None:
    parser = StreamableParser(published)
    streamed = ""
    with contextlib.suppress(ConversationError):  # some completions are refused, after what came before
        for token in goldens["completions"][completion_case]["tokens"]:
            streamed += parser.process(token) or ""
    said = [message.text for message in parser.messages]
    assert streamed == "".join(said) + parser.current_content


@pytest.mark.parametrize("kind", ["prompt", "example"])
def test_template_is_rendered_as_recorded(
    published: HarmonyEncoding, cases: dict[str, Any], goldens: dict[str, Any], template_case: str, kind: str
) -> None:
    messages, options = cases["TEMPLATES"][template_case]
    tokens = published.apply_chat_template(
        messages, current_date=cases["TEMPLATE_DATE"], add_generation_prompt=kind == "prompt", **options
    )
    assert published.decode(tokens) == published.decode(goldens["templates"][template_case][kind])
    assert tokens == goldens["templates"][template_case][kind]


def test_every_case_has_its_golden(cases: dict[str, Any], goldens: dict[str, Any]) -> None:
    for kind in ("conversations", "completions", "templates"):
        assert list(cases[kind.upper()]) == list(goldens[kind])


def test_special_tokens_have_their_published_ids(published: HarmonyEncoding) -> None:
    # tokenizer_config.json of openai/gpt-oss-20b
    assert {str(token): id_ for token, id_ in published.special_ids.items()} == {
        "<|start|>": 200006,
        "<|channel|>": 200005,
        "<|constrain|>": 200003,
        "<|message|>": 200008,
        "<|end|>": 200007,
        "<|return|>": 200002,
        "<|call|>": 200012,
    }


def message_of(recorded: dict[str, Any]) -> Message:
    (content,) = recorded["content"]
    header = {key: recorded.get(key) for key in ("name", "recipient", "channel", "content_type")}
    return Message(Role(recorded["role"]), content["text"], **header)
