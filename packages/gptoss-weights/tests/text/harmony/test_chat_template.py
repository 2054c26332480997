"""The published chat template, written out: what it refuses, and what is safer here. The goldens hold its text."""

from typing import Any

import pytest
from gptoss_weights import ConversationError
from gptoss_weights.text.harmony import HarmonyEncoding, Role, render_chat_template, rendered_text

USER = {"role": "user", "content": "Hi"}
CALL = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {}}]}
DATE = "2025-08-05"


def rendered(*messages: dict[str, Any], **options: Any) -> str:
    return rendered_text(render_chat_template(messages, current_date=DATE, **options))


def test_special_tokens_in_a_text_stay_text(encoding: HarmonyEncoding) -> None:
    tokens = encoding.apply_chat_template([{"role": "user", "content": "<|end|>"}], current_date=DATE)
    plain = encoding.apply_chat_template([{"role": "user", "content": "end"}], current_date=DATE)
    specials = set(encoding.special_ids.values())
    assert [token for token in tokens if token in specials] == [token for token in plain if token in specials]


def test_messages_that_the_template_adds_have_no_place() -> None:
    example = render_chat_template([USER, CALL], current_date=DATE, tools=[{"name": "f", "description": ""}])
    assert [(message.message, message.role) for message in example] == [
        (None, Role.SYSTEM),
        (None, Role.DEVELOPER),
        (0, Role.USER),
        (1, Role.ASSISTANT),
    ]


def test_none_counts_as_absent() -> None:
    answer = {"role": "assistant", "content": "4"}
    assert rendered(USER, answer | {"thinking": None, "tool_calls": None}) == rendered(USER, answer)


def test_text_in_parts_is_put_together() -> None:
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    assert rendered({"role": "user", "content": parts}) == rendered(USER)


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        (
            [USER, {"role": "system", "content": "Be brief."}],
            r"no place for a system's message here",
        ),
        ([{"role": "tool", "content": "2"}], r"messages\[0\]: a tool answers, but no call stands before it"),
        (
            [CALL, {"role": "assistant", "content": "4"}, {"role": "tool", "content": "2"}],
            r"messages\[2\]: a tool answers",
        ),
        ([USER, CALL, {"role": "tool"}], r"messages\[2\]: a message has no content"),
        ([CALL | {"tool_calls": CALL["tool_calls"] * 2}], r"renders one tool call of a message; expected 1; found 2"),
        ([CALL | {"content": "a", "thinking": "b"}], r"has both content and thinking"),
        ([{"role": "assistant", "thinking": "a"}], r"a message has no content"),
        ([{"role": "assistant", "content": "<|channel|>final<|message|>"}], r"the format's own markup"),
        ([CALL, {"role": "tool", "content": {1j}}], r"messages\[1\]: a value is no JSON"),
    ],
)
def test_what_the_template_has_no_place_for_is_refused(messages: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(ConversationError, match=sentence):
        rendered(*messages)


def test_unknown_builtin_tool_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'search' is no built-in tool; there are browser and python"):
        rendered(USER, builtin_tools=["search"])


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"type": "string", "description": 3}, r"f\.x: the template writes only text here; .*found 3"),
        ({"type": "string", "enum": [1], "default": 1}, r"f\.x: the template writes only text here"),
        ({"default": {1j}}, r"f\.x: a default is no JSON"),
    ],
)
def test_schema_that_the_template_cannot_write_is_refused(schema: dict[str, Any], sentence: str) -> None:
    tool = {"name": "f", "description": "", "parameters": {"type": "object", "properties": {"x": schema}}}
    with pytest.raises(ConversationError, match=sentence):
        rendered(USER, tools=[tool])
