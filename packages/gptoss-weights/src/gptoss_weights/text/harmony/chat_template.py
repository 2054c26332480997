"""The chat template that is published with GPT-OSS, word for word, written out instead of interpreted.

It takes messages in the chat shape and differs from openai-harmony in places, its bugs included; a prompt that is
to equal transformers' `apply_chat_template` is rendered here, every other one by `rendering`. Where the template
would drop a message or a call without a word, this refuses it; and a text that spells a special token stays text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from gptoss_weights.errors import ConversationError
from gptoss_weights.text.harmony.chat_fields import (
    ToolCall,
    function_tools,
    message_role,
    message_text,
    message_thinking,
    message_tool_calls,
)
from gptoss_weights.text.harmony.contents import system_text
from gptoss_weights.text.harmony.conversation import (
    ANALYSIS,
    COMMENTARY,
    FINAL,
    MODEL_IDENTITY,
    ReasoningEffort,
    Role,
    SystemContent,
)
from gptoss_weights.text.harmony.rendering import RenderedMessage
from gptoss_weights.text.harmony.special_tokens import FormattingToken
from gptoss_weights.text.harmony.template_types import functions_text
from gptoss_weights.text.harmony.tools import BROWSER, FUNCTIONS, PYTHON

__all__ = ["GENERATION_PROMPT", "ChatTemplateOptions", "render_chat_template"]

GENERATION_PROMPT = (FormattingToken.START, str(Role.ASSISTANT))
"""The pieces that a prompt ends with; the model goes on behind them."""

BUILT_IN = {"browser": BROWSER, "python": PYTHON}


class ChatTemplateOptions(TypedDict, total=False):
    """What the template takes beside messages and date; see `render_chat_template`."""

    tools: Sequence[Mapping[str, Any]] | None
    builtin_tools: Sequence[str]
    model_identity: str
    reasoning_effort: ReasoningEffort


def render_chat_template(
    messages: Sequence[Mapping[str, Any]],
    *,
    current_date: str,
    tools: Sequence[Mapping[str, Any]] | None = None,
    builtin_tools: Sequence[str] = (),
    model_identity: str = MODEL_IDENTITY,
    reasoning_effort: ReasoningEffort = ReasoningEffort.MEDIUM,
    add_generation_prompt: bool = False,
) -> list[RenderedMessage]:
    """Renders messages as the published `chat_template.jinja` does.

    Args:
        messages: The conversation. Its first message may be the system's or the developer's; tool calls
            have their arguments as an object (a string is written as JSON once more, as the template does).
        current_date: What the template asks the clock for, `YYYY-MM-DD`.
        tools: Functions that the model may call, in OpenAI's shape.
        builtin_tools: `browser`, `python`, or both.
        model_identity: The first line of the system message.
        reasoning_effort: How long to think.
        add_generation_prompt: Whether a prompt is rendered. Then reasoning is left out of the last turn too;
            the prompt's end, `GENERATION_PROMPT`, is added by `HarmonyEncoding.apply_chat_template`.

    Raises:
        ConversationError: a message is not of its kind, or the template has no place for it.
        ValueError: there is no such built-in tool.
    """
    unknown = [name for name in builtin_tools if name not in BUILT_IN]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no built-in tool; there are {' and '.join(BUILT_IN)}")
    content = SystemContent(
        model_identity=model_identity,
        conversation_start_date=current_date,
        reasoning_effort=reasoning_effort,
        tools=tuple(tool for name, tool in BUILT_IN.items() if name in builtin_tools),
    )
    system = system_text(content, has_functions=bool(tools))
    rendered = [_rendered(None, Role.SYSTEM, system)]
    first = 0
    instructions = ""
    if messages and message_role(messages[0], "messages[0]") in (Role.SYSTEM, Role.DEVELOPER):
        first, instructions = 1, _text(messages[0], "messages[0]")
    developer = f"# Instructions\n\n{instructions}\n\n" if instructions else ""
    if tools:
        developer += f"# Tools\n\n{functions_text(function_tools(tools))}"
    if developer:
        rendered.append(_rendered(0 if first else None, Role.DEVELOPER, developer))
    turns = _Turns(messages, first, add_generation_prompt=add_generation_prompt)
    return rendered + turns.render()


class _Turns:
    """What follows the instructions; knows which call a tool answers."""

    def __init__(self, messages: Sequence[Mapping[str, Any]], first: int, *, add_generation_prompt: bool) -> None:
        self._messages = messages
        self._first = first
        self._is_prompt = add_generation_prompt
        self._called: str | None = None
        self._rendered: list[RenderedMessage] = []

    def render(self) -> list[RenderedMessage]:
        for place in range(self._first, len(self._messages)):
            message, where = self._messages[place], f"messages[{place}]"
            role = message_role(message, where)
            if role is Role.USER:
                self._rendered.append(_rendered(place, role, _text(message, where)))
            elif role is Role.TOOL:
                self._render_result(place, message, where)
            elif role is Role.ASSISTANT:
                self._render_assistant(place, message, where)
            else:
                raise ConversationError(
                    f"the template has no place for a {role}'s message here", where=where, expected="it in front of all"
                )
        return self._rendered

    def _render_assistant(self, place: int, message: Mapping[str, Any], where: str) -> None:
        thinking, calls = message_thinking(message, where), message_tool_calls(message, where)
        if calls:
            self._render_call(place, message, calls, thinking)
            return
        is_example = place == len(self._messages) - 1 and not self._is_prompt
        if is_example and thinking is not None:
            self._rendered.append(_assistant(place, ANALYSIS, thinking))
        end = FormattingToken.RETURN if is_example else FormattingToken.END
        self._rendered.append(_assistant(place, FINAL, _text(message, where), end))
        self._called = None

    def _render_call(self, place: int, message: Mapping[str, Any], calls: list[ToolCall], thinking: str | None) -> None:
        where = f"messages[{place}]"
        if len(calls) > 1:
            raise ConversationError(
                "the template renders one tool call of a message", where=where, expected=1, found=len(calls)
            )
        text = message_text(message, where)
        if text and thinking:
            raise ConversationError(
                "a message with a tool call has both content and thinking",
                where=where,
                fix="Put the reasoning into one of them, as the template wants it.",
            )
        if (text or thinking) and not self._is_answered_after(place):
            self._rendered.append(_assistant(place, ANALYSIS, text or thinking or ""))
        (call,) = calls
        self._called = call.name
        header = (
            f" to={FUNCTIONS}.{call.name}",
            FormattingToken.CHANNEL,
            f"{COMMENTARY} {'json' if call.content_type is None else call.content_type}",
            FormattingToken.MESSAGE,
        )
        self._rendered.append(
            RenderedMessage(
                message=place,
                role=Role.ASSISTANT,
                channel=COMMENTARY,
                opening=GENERATION_PROMPT,
                header=header,
                content=(_json(call.arguments, where),),
                end=FormattingToken.CALL,
            )
        )

    def _render_result(self, place: int, message: Mapping[str, Any], where: str) -> None:
        if self._called is None:
            raise ConversationError("a tool answers, but no call stands before it", where=where)
        if message.get("content") is None:
            raise ConversationError("a message has no content", where=where)
        header = (f" to={Role.ASSISTANT}", FormattingToken.CHANNEL, COMMENTARY, FormattingToken.MESSAGE)
        self._rendered.append(
            RenderedMessage(
                message=place,
                role=Role.TOOL,
                channel=COMMENTARY,
                opening=(FormattingToken.START, f"{FUNCTIONS}.{self._called}"),
                header=header,
                content=(_json(message["content"], where),),
                end=FormattingToken.END,
            )
        )

    def _is_answered_after(self, place: int) -> bool:
        """Whether the assistant says something later that is no call; reasoning before it is history then."""
        return any(
            message_role(later, f"messages[{number}]") is Role.ASSISTANT
            and not message_tool_calls(later, f"messages[{number}]")
            for number, later in enumerate(self._messages[place + 1 :], place + 1)
        )


def _rendered(place: int | None, role: Role, text: str) -> RenderedMessage:
    return RenderedMessage(
        message=place,
        role=role,
        channel=None,
        opening=(FormattingToken.START, str(role)),
        header=(FormattingToken.MESSAGE,),
        content=(text,),
        end=FormattingToken.END,
    )


def _assistant(place: int, channel: str, text: str, end: FormattingToken = FormattingToken.END) -> RenderedMessage:
    return RenderedMessage(
        message=place,
        role=Role.ASSISTANT,
        channel=channel,
        opening=GENERATION_PROMPT,
        header=(FormattingToken.CHANNEL, channel, FormattingToken.MESSAGE),
        content=(text,),
        end=end,
    )


def _text(message: Mapping[str, Any], where: str) -> str:
    text = message_text(message, where)
    if text is None:
        raise ConversationError("a message has no content", where=where)
    return text


def _json(value: object, where: str) -> str:
    """JSON as transformers' filter `tojson` writes it."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        raise ConversationError(f"a value is no JSON ({error})", where=where) from None
