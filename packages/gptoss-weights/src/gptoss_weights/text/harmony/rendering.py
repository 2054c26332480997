"""Conversations into Harmony: for each message the pieces that are encoded one by one, in openai-harmony's order.

A piece is a special token, or ordinary text. Encoding each by itself is what makes the renderer safe: the
text of a message never becomes a special token, whatever it says, and no token reaches across a border.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gptoss_weights.errors import ConversationError
from gptoss_weights.text.harmony.contents import developer_text, system_text
from gptoss_weights.text.harmony.conversation import (
    ANALYSIS,
    FINAL,
    Content,
    DeveloperContent,
    Message,
    Role,
    SystemContent,
)
from gptoss_weights.text.harmony.special_tokens import FormattingToken

__all__ = ["RenderedMessage", "render_conversation", "render_message", "rendered_text"]

EVERYBODY = "all"  # a recipient that is not written


@dataclass(frozen=True)
class RenderedMessage:
    """One message as the pieces that it is written in; the format's tokens are `FormattingToken`, the rest is text.

    Args:
        message: Its place in the conversation that was given; None for one that a template adds.
        role: Who speaks.
        channel: Its channel, if any.
        opening: `<|start|>` and the author, with which a prompt for a completion ends.
        header: The rest of the header, `<|message|>` included.
        content: What is said.
        end: What it ends with.
    """

    message: int | None
    role: Role
    channel: str | None
    opening: tuple[str, ...]
    header: tuple[str, ...]
    content: tuple[str, ...]
    end: FormattingToken

    @property
    def pieces(self) -> tuple[str, ...]:
        """All of it, in order."""
        return (*self.opening, *self.header, *self.content, self.end)


def render_conversation(
    messages: Sequence[Message], *, auto_drop_analysis: bool = True, for_training: bool = False
) -> list[RenderedMessage]:
    """Renders a conversation with the rules of openai-harmony's `render_conversation`.

    Args:
        messages: The conversation.
        auto_drop_analysis: Leave out the reasoning before the first final message, if the last thing that
            the assistant said is final. Reasoning between later final messages stays, as it does there.
        for_training: End the last message, if it is an assistant's final one, with `<|return|>`.

    Raises:
        ConversationError: a message cannot be rendered.
        ValueError: a default in a tool's schema is no JSON value.
    """
    has_functions = any(
        isinstance(part, DeveloperContent) and part.has_functions for message in messages for part in message.parts
    )
    dropped_before = _first_final(messages) if auto_drop_analysis and _ends_in_final(messages) else 0
    rendered = [
        render_message(message, place=place, has_functions=has_functions)
        for place, message in enumerate(messages)
        if not (place < dropped_before and message.channel == ANALYSIS)
    ]
    if for_training and messages and messages[-1].role is Role.ASSISTANT and messages[-1].channel == FINAL:
        rendered[-1] = replace(rendered[-1], end=FormattingToken.RETURN)
    return rendered


def render_message(message: Message, *, place: int = 0, has_functions: bool = False) -> RenderedMessage:
    """Renders one message.

    Args:
        message: The message.
        place: Its place in the conversation, for errors and spans.
        has_functions: Whether the conversation offers functions, which a system message then says.

    Raises:
        ConversationError: a tool has no name, or a content stands where its role cannot say it.
    """
    if message.role is Role.TOOL and message.name is None:
        raise ConversationError(
            "a tool's message has no name",
            where=f"message {place}",
            fix="Give the full name of the tool, such as 'functions.get_weather'.",
        )
    is_call = message.role is Role.ASSISTANT and message.recipient is not None
    return RenderedMessage(
        message=place,
        role=message.role,
        channel=message.channel,
        opening=(FormattingToken.START, str(message.name if message.role is Role.TOOL else message.role)),
        header=tuple(_header(message)),
        content=tuple(_content_text(part, message, place, has_functions) for part in message.parts),
        end=FormattingToken.CALL if is_call else FormattingToken.END,
    )


def rendered_text(rendered: Iterable[RenderedMessage]) -> str:
    """The text of rendered messages, special tokens spelled out."""
    return "".join(piece for message in rendered for piece in message.pieces)


def _header(message: Message) -> list[str]:
    pieces: list[str] = []
    if message.name is not None and message.role is not Role.TOOL:
        pieces.append(f":{message.name}")
    if message.recipient is not None and message.recipient != EVERYBODY:
        pieces.append(f" to={message.recipient}")
    if message.channel is not None:
        pieces += [FormattingToken.CHANNEL, message.channel]
    if message.content_type is not None:
        constrained = message.content_type.removeprefix(FormattingToken.CONSTRAIN)
        if constrained == message.content_type:
            pieces.append(f" {message.content_type}")
        else:
            pieces += [" ", FormattingToken.CONSTRAIN, constrained]
    return [*pieces, FormattingToken.MESSAGE]


def _content_text(part: Content, message: Message, place: int, has_functions: bool) -> str:
    if isinstance(part, SystemContent):
        _require_role(message, Role.SYSTEM, part, place)
        return system_text(part, has_functions=has_functions)
    if isinstance(part, DeveloperContent):
        _require_role(message, Role.DEVELOPER, part, place)
        return developer_text(part)
    return part


def _require_role(message: Message, role: Role, part: Content, place: int) -> None:
    if message.role is not role:
        kind = type(part).__name__
        raise ConversationError(
            f"{kind} stands in a message that is not the {role}'s", where=f"message {place}", found=str(message.role)
        )


def _ends_in_final(messages: Sequence[Message]) -> bool:
    spoken = [message for message in messages if message.role is Role.ASSISTANT]
    return bool(spoken) and spoken[-1].channel == FINAL


def _first_final(messages: Sequence[Message]) -> int:
    return next((place for place, message in enumerate(messages) if message.channel == FINAL), 0)
