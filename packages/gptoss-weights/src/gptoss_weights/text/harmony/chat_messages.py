"""Conversations in JSON as Harmony messages: OpenAI's chat shape, Hugging Face's data sets, and openai-harmony's own.

What the chat shape does not say is decided as the published chat template decides it: a system message is the
developer's instructions, and a text beside tool calls is reasoning. What the template gets wrong, more than one
call in a message, results in JSON twice, is written as openai/harmony's docs/format.md has it.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gptoss_weights.errors import ConversationError
from gptoss_weights.text.harmony.chat_fields import (
    function_tools,
    message_role,
    message_text,
    message_thinking,
    message_tool_calls,
)
from gptoss_weights.text.harmony.conversation import (
    ANALYSIS,
    COMMENTARY,
    FINAL,
    JSON_CONTENT_TYPE,
    DeveloperContent,
    Message,
    Role,
    SystemContent,
)
from gptoss_weights.text.harmony.tools import FUNCTIONS, functions

__all__ = ["conversation_from_json"]

BUILT_IN = ("browser", "python")
CHANNELS = (ANALYSIS, COMMENTARY, FINAL)
NEAR = 0.5  # how alike a channel that there is must be to be named, from 0 to 1
HEADER_KEYS = ("name", "recipient", "channel", "content_type")


def conversation_from_json(
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    system: SystemContent | None = None,
    places: Sequence[str] | None = None,
    tools_place: str = "tools",
) -> list[Message]:
    """Reads a list of messages.

    Each has a `role` and, by role,

    - `system`, `developer`: `content`, which becomes the developer's instructions;
    - `user`: `content`;
    - `assistant`: `thinking` (or `reasoning_content`, `reasoning`), `content`, `tool_calls`; `channel`,
      where `content` is not the final answer; `recipient` and `content_type` of a call written out;
    - `tool`: `content`, and `tool_call_id` or `name`; without them it answers the last call.

    Keys beyond these are not read.

    Args:
        messages: The list, as `json.loads` gives it.
        tools: Functions that the model may call, in OpenAI's shape.
        system: What the system message says; None for the defaults of `SystemContent`. Its channels are those
            that a message may have, beside the three of the format.
        places: What errors call each message; by default `messages[0]` and so on.
        tools_place: What errors call the list of tools.

    Raises:
        ConversationError: something is missing or not of its kind, with the place where.
    """
    content = SystemContent() if system is None else system
    reader = _Reader(tuple(dict.fromkeys((*CHANNELS, *content.valid_channels))))
    places = [f"messages[{number}]" for number in range(len(messages))] if places is None else places
    for message, place in zip(messages, places, strict=True):
        reader.read(message, place)
    conversation = reader.conversation
    offered = function_tools(tools, tools_place)
    if offered:
        first = conversation[0] if conversation else None
        if first is not None and isinstance(first.content, DeveloperContent):
            conversation[0] = replace(first, content=replace(first.content, tools=(functions(*offered),)))
        else:
            conversation.insert(0, Message(Role.DEVELOPER, DeveloperContent(tools=(functions(*offered),))))
    return [Message(Role.SYSTEM, content), *conversation]


class _Reader:
    """Turns one message after the other into those of Harmony, and knows which calls are open."""

    def __init__(self, channels: tuple[str, ...]) -> None:
        self._channels = channels
        self.conversation: list[Message] = []
        self._names: dict[str, str] = {}  # id of a call → full name of its tool
        self._last_call: str | None = None

    def read(self, message: Mapping[str, Any], where: str) -> None:
        role = message_role(message, where)
        if role is Role.ASSISTANT:
            self._read_assistant(message, where)
        elif role is Role.TOOL:
            self._read_result(message, where)
        elif role is Role.USER:
            self.conversation.append(Message(role, _required_text(message, where), **self._header(message, where)))
        else:
            instructions = DeveloperContent(instructions=_required_text(message, where))
            self.conversation.append(Message(Role.DEVELOPER, instructions))

    def _read_assistant(self, message: Mapping[str, Any], where: str) -> None:
        text, thinking = message_text(message, where), message_thinking(message, where)
        calls, header = message_tool_calls(message, where), self._header(message, where)
        if text is None and thinking is None and not calls:
            raise ConversationError(
                "an assistant's message says nothing", where=where, expected="content, thinking or tool_calls"
            )
        if calls and text is not None and thinking is None and "channel" not in header:
            thinking = text or None
            text = None
        if thinking is not None:
            self.conversation.append(Message(Role.ASSISTANT, thinking, channel=ANALYSIS))
        if text is not None and (text or not calls):
            header.setdefault("channel", COMMENTARY if calls or "recipient" in header else FINAL)
            self.conversation.append(Message(Role.ASSISTANT, text, **header))
            self._last_call = header.get("recipient")
        for call in calls:
            self._last_call = _full_name(call.name)
            if call.id is not None:
                self._names[call.id] = self._last_call
            content_type = JSON_CONTENT_TYPE if call.content_type is None else call.content_type
            arguments = call.arguments if isinstance(call.arguments, str) else _json(call.arguments, call.where)
            self.conversation.append(
                Message(
                    Role.ASSISTANT,
                    arguments,
                    recipient=self._last_call,
                    channel=COMMENTARY,
                    content_type=content_type,
                )
            )

    def _read_result(self, message: Mapping[str, Any], where: str) -> None:
        header = self._header(message, where)
        call = message.get("tool_call_id")
        if call is not None and call in self._names:
            name = self._names[call]
        elif "name" in header:
            name = _full_name(header["name"])
        elif call is not None:
            raise ConversationError("a tool answers a call that nobody made", where=where, found=repr(call))
        elif self._last_call is not None:
            name = self._last_call
        else:
            raise ConversationError(
                "a tool answers, but there was no call", where=where, fix="Give `tool_call_id` or `name`."
            )
        header |= {"name": name}
        header.setdefault("recipient", str(Role.ASSISTANT))
        header.setdefault("channel", COMMENTARY)
        self.conversation.append(Message(Role.TOOL, _required_text(message, where), **header))

    def _header(self, message: Mapping[str, Any], where: str) -> dict[str, str]:
        """What openai-harmony's shape says beside the content."""
        header = {key: message[key] for key in HEADER_KEYS if message.get(key) is not None}
        for key, value in header.items():
            if not isinstance(value, str):
                raise ConversationError(
                    "this must be text", where=f"{where}.{key}", expected="a string", found=type(value).__name__
                )
        channel = header.get("channel")
        if channel is not None and channel not in self._channels:
            near = difflib.get_close_matches(channel.lower(), self._channels, n=1, cutoff=NEAR)
            raise ConversationError(
                "there is no such channel",
                where=f"{where}.channel",
                expected=", ".join(self._channels),
                found=repr(channel),
                fix=f"The nearest is {near[0]!r}." if near else None,
            )
        return header


def _required_text(message: Mapping[str, Any], where: str) -> str:
    text = message_text(message, where)
    if text is None:
        raise ConversationError("a message has no content", where=where)
    return text


def _full_name(name: str) -> str:
    """The name of a tool with its namespace: a function's, unless it says another."""
    namespace, _, _ = name.partition(".")
    return name if namespace in (FUNCTIONS, *BUILT_IN) else f"{FUNCTIONS}.{name}"


def _json(arguments: object, where: str) -> str:
    try:
        return json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConversationError(f"the arguments of a tool call are no JSON ({error})", where=where) from None
