"""Rendering: which messages are left out, and what cannot be rendered. The goldens hold the text."""

import pytest
from gptoss_weights import ConversationError
from gptoss_weights.text.harmony import (
    ANALYSIS,
    FINAL,
    DeveloperContent,
    FormattingToken,
    Message,
    Role,
    SystemContent,
    Tool,
    functions,
    render_conversation,
    render_message,
    rendered_text,
)

THOUGHT = Message(Role.ASSISTANT, "Hm.", channel=ANALYSIS)
ANSWER = Message(Role.ASSISTANT, "4", channel=FINAL)
QUESTION = Message(Role.USER, "2 + 2?")
CALL = Message(Role.ASSISTANT, "{}", recipient="functions.f")


@pytest.mark.parametrize(
    ("conversation", "kept"),
    [
        ([QUESTION, THOUGHT], 2),
        ([QUESTION, THOUGHT, CALL], 3),
        ([QUESTION, THOUGHT, ANSWER], 2),
        ([QUESTION, THOUGHT, ANSWER, QUESTION], 3),
        ([QUESTION, THOUGHT, ANSWER, QUESTION, THOUGHT], 5),
        ([QUESTION, THOUGHT, ANSWER, QUESTION, THOUGHT, ANSWER], 5),
    ],
)
def test_reasoning_is_dropped_before_the_first_answer_if_the_last_word_is_final(
    conversation: list[Message], kept: int
) -> None:
    assert len(render_conversation(conversation)) == kept
    assert len(render_conversation(conversation, auto_drop_analysis=False)) == len(conversation)


def test_only_a_final_last_message_ends_with_return() -> None:
    ends = [message.end for message in render_conversation([QUESTION, ANSWER, QUESTION, ANSWER], for_training=True)]
    assert ends == [FormattingToken.END] * 3 + [FormattingToken.RETURN]
    assert render_conversation([ANSWER, QUESTION], for_training=True)[-1].end is FormattingToken.END
    assert render_conversation([QUESTION, CALL], for_training=True)[-1].end is FormattingToken.CALL
    assert render_conversation([], for_training=True) == []


def test_system_message_says_where_calls_go_if_there_is_a_function() -> None:
    system = Message(Role.SYSTEM, SystemContent())
    offers = [Message(Role.DEVELOPER, DeveloperContent(tools=(functions(Tool("f", "")),)))]
    note = "Calls to these tools must go to the commentary channel: 'functions'."
    assert note in rendered_text(render_conversation([system, *offers])[:1])
    empty = [Message(Role.DEVELOPER, DeveloperContent(tools=(functions(),)))]
    assert note not in rendered_text(render_conversation([system, *empty]))


def test_tool_without_a_name_is_refused() -> None:
    with pytest.raises(ConversationError, match=r"message 1: a tool's message has no name\. Give the full name"):
        render_conversation([QUESTION, Message(Role.TOOL, "4")])


@pytest.mark.parametrize("content", [SystemContent(), DeveloperContent()])
def test_content_of_another_role_is_refused(content: SystemContent | DeveloperContent) -> None:
    with pytest.raises(ConversationError, match=rf"message 0: {type(content).__name__} stands .*; found user"):
        render_conversation([Message(Role.USER, content)])


def test_namespace_given_twice_is_refused() -> None:
    twice = DeveloperContent(tools=(functions(Tool("f", "")), functions(Tool("g", ""))))
    with pytest.raises(ValueError, match=r"given twice: functions; put all their tools into one"):
        render_message(Message(Role.DEVELOPER, twice))


def test_text_of_a_message_leaves_out_what_is_no_text() -> None:
    assert Message(Role.SYSTEM, ("a", SystemContent(), "b")).text == "ab"
    assert Message(Role.SYSTEM, SystemContent()).text == ""
