"""The fields of a message in the chat shape, `{"role": …, "content": …}`, read and refused alike by all who take it.

The shape is that of OpenAI's chat API and of Hugging Face's data sets. None counts as absent, for tables write
it where a column says nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gptoss_weights.errors import ConversationError
from gptoss_weights.text.harmony.conversation import Role
from gptoss_weights.text.harmony.tools import Tool

__all__ = ["ToolCall", "function_tools", "message_role", "message_text", "message_thinking", "message_tool_calls"]

THINKING_KEYS = ("thinking", "reasoning_content", "reasoning")  # transformers takes all of them for `thinking`
MARKUP = ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>")  # what the published template refuses


@dataclass(frozen=True)
class ToolCall:
    """One entry of `tool_calls`.

    Args:
        name: The function's name.
        arguments: What it is called with: an object, or its JSON as text.
        where: What errors call the place of its arguments.
        id: What a result refers to it by.
        content_type: What the arguments are written in; None for JSON.
    """

    name: str
    arguments: object
    where: str
    id: str | None = None
    content_type: str | None = None


def message_role(message: Mapping[str, Any], where: str) -> Role:
    """Who speaks.

    Raises:
        ConversationError: the message is no object, or has no role that there is.
    """
    if not isinstance(message, Mapping):
        raise ConversationError("a message is no JSON object", where=where, found=type(message).__name__)
    role = message.get("role")
    if not isinstance(role, str) or role not in Role:
        found = "none" if role is None else repr(role)
        raise ConversationError(
            "a message has no role that there is", where=where, expected=", ".join(Role), found=found
        )
    return Role(role)


def message_text(message: Mapping[str, Any], where: str) -> str | None:
    """The content as text: a string, or a list of parts `{"type": "text", "text": …}`, put together.

    Raises:
        ConversationError: it is something else, or an assistant's that has the format's own markup in it.
    """
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_part_text(part, f"{where}.content[{place}]") for place, part in enumerate(content))
    if content is None:
        return None
    return _plain(_string(content, f"{where}.content"), message, f"{where}.content")


def message_thinking(message: Mapping[str, Any], where: str) -> str | None:
    """An assistant's reasoning: `thinking`, or what others call it.

    Raises:
        ConversationError: it is no text, or has the format's own markup in it.
    """
    for key in THINKING_KEYS:
        if message.get(key) is not None:
            return _plain(_string(message[key], f"{where}.{key}"), message, f"{where}.{key}")
    return None


def message_tool_calls(message: Mapping[str, Any], where: str) -> list[ToolCall]:
    """The calls of tools; `{"function": {"name": …, "arguments": …}}`, or what is inside of it.

    Raises:
        ConversationError: they are not such a list, or of the outdated shape `function_call`.
    """
    if message.get("function_call") is not None:
        raise ConversationError(
            "function_call is not read", where=where, fix="Write it as an entry of `tool_calls` instead."
        )
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise ConversationError("tool_calls is no list", where=where, found=type(calls).__name__)
    return [_call(call, f"{where}.tool_calls[{place}]") for place, call in enumerate(calls)]


def function_tools(tools: Sequence[Mapping[str, Any]] | None, where: str = "tools") -> tuple[Tool, ...]:
    """Functions as in OpenAI's API: `{"type": "function", "function": {"name": …, "parameters": …}}`.

    Raises:
        ConversationError: they are something else.
    """
    return tuple(_tool(tool, f"{where}[{place}]") for place, tool in enumerate(tools or ()))


def _tool(tool: object, where: str) -> Tool:
    if not isinstance(tool, Mapping):
        raise ConversationError("a tool is no JSON object", where=where, found=type(tool).__name__)
    if tool.get("type", "function") != "function":
        raise ConversationError("a tool is no function", where=where, found=repr(tool["type"]))
    function, where = _inner_function(tool, where)
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise ConversationError("parameters is no JSON schema", where=where, found=type(parameters).__name__)
    description = function.get("description")
    described = "" if description is None else _string(description, f"{where}.description")
    return Tool(_string(function.get("name"), f"{where}.name"), described, parameters)


def _call(call: object, where: str) -> ToolCall:
    if not isinstance(call, Mapping):
        raise ConversationError("a tool call is no JSON object", where=where, found=type(call).__name__)
    function, inner = _inner_function(call, where)
    if function.get("arguments") is None:
        raise ConversationError("a tool call has no arguments", where=inner, fix="Write {} for none.")
    content_type = function.get("content_type")
    return ToolCall(
        name=_string(function.get("name"), f"{inner}.name"),
        arguments=function["arguments"],
        where=f"{inner}.arguments",
        id=None if call.get("id") is None else _string(call["id"], f"{where}.id"),
        content_type=None if content_type is None else _string(content_type, f"{inner}.content_type"),
    )


def _inner_function(outer: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], str]:
    inner = outer.get("function")
    if inner is None:
        return outer, where
    if not isinstance(inner, Mapping):
        raise ConversationError("function is no JSON object", where=where, found=type(inner).__name__)
    return inner, f"{where}.function"


def _part_text(part: object, where: str) -> str:
    if not isinstance(part, Mapping) or part.get("type") != "text":
        kind = repr(part.get("type")) if isinstance(part, Mapping) else type(part).__name__
        raise ConversationError("a part of the content is no text", where=where, expected="type 'text'", found=kind)
    return _string(part.get("text"), f"{where}.text")


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        found = "nothing" if value is None else type(value).__name__
        raise ConversationError("this must be text", where=where, expected="a string", found=found)
    return value


def _plain(text: str, message: Mapping[str, Any], where: str) -> str:
    if message.get("role") == Role.ASSISTANT and any(markup in text for markup in MARKUP):
        raise ConversationError(
            "the text has the format's own markup in it",
            where=where,
            fix="Put the reasoning into `thinking` and the answer into `content`, both without <|channel|>.",
        )
    return text
