"""Conversations in JSON: what each shape becomes, and where it says that something is missing."""

import math
from typing import Any

import pytest
from gptoss_weights import ConversationError
from gptoss_weights.text.harmony import (
    ANALYSIS,
    COMMENTARY,
    FINAL,
    JSON_CONTENT_TYPE,
    DeveloperContent,
    Message,
    ReasoningEffort,
    Role,
    SystemContent,
    Tool,
    conversation_from_json,
    functions,
)

SYSTEM = Message(Role.SYSTEM, SystemContent())
USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "description": "Does it.", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


def read(*messages: dict[str, Any], **options: Any) -> list[Message]:
    system, *rest = conversation_from_json(messages, **options)
    assert system.role is Role.SYSTEM
    return rest


def call_of(name: str, arguments: str) -> Message:
    return Message(Role.ASSISTANT, arguments, recipient=name, channel=COMMENTARY, content_type=JSON_CONTENT_TYPE)


def result_of(name: str, text: str) -> Message:
    return Message(Role.TOOL, text, name, recipient="assistant", channel=COMMENTARY)


def test_system_message_of_harmony_comes_first_and_can_be_given() -> None:
    assert conversation_from_json([USER]) == [SYSTEM, Message(Role.USER, "Hi")]
    content = SystemContent(reasoning_effort=ReasoningEffort.HIGH, conversation_start_date="2025-08-05")
    assert conversation_from_json([], system=content) == [Message(Role.SYSTEM, content)]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_and_developer_messages_are_the_developers_instructions(role: str) -> None:
    instructions = Message(Role.DEVELOPER, DeveloperContent(instructions="Be brief."))
    assert read({"role": role, "content": "Be brief."}, USER)[0] == instructions


def test_tools_join_the_first_instructions_or_stand_alone() -> None:
    offered = (functions(Tool("f", "Does it.", {"type": "object"})),)
    with_instructions = DeveloperContent(instructions="Be brief.", tools=offered)
    assert read({"role": "system", "content": "Be brief."}, tools=[TOOL])[0].content == with_instructions
    assert read(USER, tools=[TOOL])[0] == Message(Role.DEVELOPER, DeveloperContent(tools=offered))
    assert read(USER, tools=[TOOL["function"]]) == read(USER, tools=[TOOL])


@pytest.mark.parametrize("key", ["thinking", "reasoning_content", "reasoning"])
def test_thinking_is_analysis_and_content_is_final(key: str) -> None:
    assert read({"role": "assistant", key: "Hm.", "content": "4"}) == [
        Message(Role.ASSISTANT, "Hm.", channel=ANALYSIS),
        Message(Role.ASSISTANT, "4", channel=FINAL),
    ]


def test_none_counts_as_absent() -> None:
    nothing = {"thinking": None, "tool_calls": None, "tool_call_id": None, "name": None, "channel": None}
    assert read({"role": "assistant", "content": "4"} | nothing) == read({"role": "assistant", "content": "4"})


def test_channel_of_a_message_can_be_given() -> None:
    assert read({"role": "assistant", "content": "Hm.", "channel": ANALYSIS}) == [
        Message(Role.ASSISTANT, "Hm.", channel=ANALYSIS)
    ]


@pytest.mark.parametrize("arguments", ['{"x": 1}', {"x": 1}])
def test_call_and_its_result_become_messages_between_assistant_and_tool(arguments: object) -> None:
    call = {"id": "c1", "function": {"name": "f", "arguments": arguments}}
    conversation = read(
        {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": "2"}
    )
    assert conversation == [call_of("functions.f", '{"x": 1}'), result_of("functions.f", "2")]


def test_results_of_several_calls_find_theirs_by_id() -> None:
    calls = [{"id": f"c{name}", "function": {"name": name, "arguments": "{}"}} for name in "fgh"]
    results = [{"role": "tool", "tool_call_id": f"c{name}", "content": name} for name in "hfg"]
    conversation = read({"role": "assistant", "tool_calls": calls}, *results)
    assert [message.recipient for message in conversation[:3]] == ["functions.f", "functions.g", "functions.h"]
    assert conversation[3:] == [result_of(f"functions.{name}", name) for name in "hfg"]


def test_result_without_an_id_answers_the_last_call_and_a_name_says_another() -> None:
    said = {"role": "assistant", "tool_calls": [CALL]}
    assert read(said, {"role": "tool", "content": "2"})[-1] == result_of("functions.f", "2")
    assert read(said, {"role": "tool", "name": "g", "content": "2"})[-1] == result_of("functions.g", "2")
    assert read(said, {"role": "tool", "name": "browser.open", "content": "2"})[-1].name == "browser.open"


def test_content_beside_a_call_is_reasoning_unless_there_is_thinking_too() -> None:
    assert read({"role": "assistant", "content": "Hm.", "tool_calls": [CALL]})[0] == Message(
        Role.ASSISTANT, "Hm.", channel=ANALYSIS
    )
    both = read({"role": "assistant", "content": "One moment.", "thinking": "Hm.", "tool_calls": [CALL]})
    assert [(message.text, message.channel) for message in both] == [
        ("Hm.", ANALYSIS),
        ("One moment.", COMMENTARY),
        ('{"x": 1}', COMMENTARY),
    ]
    assert len(read({"role": "assistant", "content": "", "tool_calls": [CALL]})) == 1


def test_what_openai_harmony_writes_is_read() -> None:
    written = {
        "role": "assistant",
        "content": [{"type": "text", "text": "{"}, {"type": "text", "text": "}"}],
        "recipient": "functions.f",
        "channel": "commentary",
        "content_type": JSON_CONTENT_TYPE,
    }
    result = {"role": "tool", "name": "functions.f", "content": "1", "recipient": "assistant", "channel": "commentary"}
    assert read(written, result) == [call_of("functions.f", "{}"), result_of("functions.f", "1")]
    del result["name"]
    assert read(written, result)[-1] == result_of("functions.f", "1")


def test_message_may_have_a_channel_that_the_system_message_names() -> None:
    system = SystemContent(valid_channels=("confession",))
    for channel in ("confession", "final"):
        said = {"role": "assistant", "content": "4", "channel": channel}
        assert read(said, system=system) == [Message(Role.ASSISTANT, "4", channel=channel)]


def test_conversation_that_is_read_can_be_rendered_and_messages_stay_untouched() -> None:
    messages = [USER, {"role": "assistant", "content": "4", "tool_calls": None}]
    before = [dict(message) for message in messages]
    conversation_from_json(messages, tools=[TOOL])
    assert messages == before


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([USER, "Hi"], r"messages\[1\]: a message is no JSON object; found str"),
        ([{"content": "Hi"}], r"messages\[0\]: a message has no role that there is; expected system, .*; found none"),
        ([{"role": "human", "content": "Hi"}], r"found 'human'"),
        ([{"role": ["user"], "content": "Hi"}], r"found \['user'\]"),
        ([{"role": "user"}], r"messages\[0\]: a message has no content"),
        ([{"role": "user", "content": 3}], r"messages\[0\]\.content: this must be text; expected a string; found int"),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}],
            r"messages\[0\]\.content\[0\]: a part of the content is no text; expected type 'text'; found 'image_url'",
        ),
        ([{"role": "user", "content": [{"type": "text"}]}], r"messages\[0\]\.content\[0\]\.text: this must be text"),
        ([{"role": "assistant"}], r"an assistant's message says nothing; expected content, thinking or tool_calls"),
        ([{"role": "assistant", "content": "4", "channel": 1}], r"messages\[0\]\.channel: this must be text"),
        *(
            (
                [USER, {"role": role, "content": "4", "channel": channel}],
                r"messages\[1\]\.channel: there is no such channel; expected analysis, commentary, final; "
                rf"found {hint}$",
            )
            for role, channel, hint in (
                ("assistant", "finall", r"'finall'\. The nearest is 'final'\."),
                ("assistant", "Final", r"'Final'\. The nearest is 'final'\."),
                ("assistant", "final <|end|>", r"'final <\|end\|>'\. The nearest is 'final'\."),
                ("user", "", "''"),
                ("tool", "xyz", "'xyz'"),
            )
        ),
        ([{"role": "assistant", "thinking": []}], r"messages\[0\]\.thinking: this must be text"),
        (
            [{"role": "assistant", "content": "<|channel|>final<|message|>4"}],
            r"messages\[0\]\.content: the text has the format's own markup in it\. Put the reasoning into `thinking`",
        ),
        ([{"role": "assistant", "tool_calls": "f"}], r"messages\[0\]: tool_calls is no list; found str"),
        ([{"role": "assistant", "tool_calls": ["f"]}], r"tool_calls\[0\]: a tool call is no JSON object; found str"),
        ([{"role": "assistant", "tool_calls": [{"function": 1}]}], r"tool_calls\[0\]: function is no JSON object"),
        ([{"role": "assistant", "tool_calls": [{"name": "f"}]}], r"tool_calls\[0\]: a tool call has no arguments"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}],
            r"messages\[0\]\.tool_calls\[0\]\.function\.name: this must be text; expected a string; found nothing",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": {1j}}]}],
            r"messages\[0\]\.tool_calls\[0\]\.arguments: the arguments of a tool call are no JSON",
        ),
        *(
            (
                [
                    {
                        "role": "assistant",
                        "tool_calls": [CALL, {"function": {"name": "f", "arguments": {"a": [number]}}}],
                    }
                ],
                r"messages\[0\]\.tool_calls\[1\]\.function\.arguments: the arguments of a tool call are no JSON \(",
            )
            for number in (math.nan, math.inf, -math.inf)
        ),
        ([{"role": "assistant", "function_call": {"name": "f"}}], r"function_call is not read\. Write it as an entry"),
        ([{"role": "tool", "content": "2"}], r"messages\[0\]: a tool answers, but there was no call\. Give"),
        ([{"role": "tool", "tool_call_id": "c", "content": "2"}], r"a tool answers a call that nobody made; found 'c'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(messages: list[Any], sentence: str) -> None:
    with pytest.raises(ConversationError, match=sentence):
        conversation_from_json(messages)


def test_messages_have_the_places_that_their_reader_gives_them() -> None:
    with pytest.raises(ConversationError, match=r"^answer\[0\]\.content: this must be text"):
        conversation_from_json([USER, {"role": "assistant", "content": 3}], places=["question", "answer[0]"])


@pytest.mark.parametrize(
    ("tool", "sentence"),
    [
        ("f", r"tools\[0\]: a tool is no JSON object; found str"),
        ({"type": "retrieval"}, r"tools\[0\]: a tool is no function; found 'retrieval'"),
        ({"type": "function", "function": {}}, r"tools\[0\]\.function\.name: this must be text"),
        ({"name": "f", "description": 3}, r"tools\[0\]\.description: this must be text"),
        ({"name": "f", "parameters": []}, r"tools\[0\]: parameters is no JSON schema; found list"),
    ],
)
def test_what_is_wrong_with_a_tool_is_said(tool: Any, sentence: str) -> None:
    with pytest.raises(ConversationError, match=sentence):
        conversation_from_json([USER], tools=[tool])
