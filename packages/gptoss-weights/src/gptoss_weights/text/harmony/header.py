"""The header of a message read back: author, recipient, channel and content type, with openai-harmony's leniency.

Models write the recipient before the channel or behind it, and `<|constrain|>` with or without a space;
all of these are read alike (`parse_header_from_string` in openai/harmony `encoding.rs`).
"""

import re
from dataclasses import dataclass

from gptoss_weights.errors import ConversationError
from gptoss_weights.text.harmony.conversation import Role
from gptoss_weights.text.harmony.special_tokens import FormattingToken

__all__ = ["MessageHeader", "parse_header", "parse_unfinished_header"]

RECIPIENT = "to="
_WHITESPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # Unicode's White_Space
_CHANNEL = re.compile(f"{re.escape(FormattingToken.CHANNEL)}([^{_WHITESPACE}<]*)")
_OUTER_WHITESPACE = re.compile(f"^[{_WHITESPACE}]+|[{_WHITESPACE}]+$")
_ASCII_WHITESPACE = re.compile(r"[\t\n\f\r ]+")


@dataclass(frozen=True)
class MessageHeader:
    """Who speaks, to whom, where, and in what; fields as in `Message`."""

    role: Role
    name: str | None = None
    recipient: str | None = None
    channel: str | None = None
    content_type: str | None = None


def parse_header(text: str, role: Role | None) -> MessageHeader:
    """Reads a whole header.

    Args:
        text: What stands between `<|start|>` and `<|message|>`, special tokens spelled out.
        role: Who speaks, where the prompt ended with it; None if the header says so.

    Raises:
        ConversationError: there is no role, no name behind `<|channel|>`, or too much.
    """
    header, words = _author_and_channel(text, role)
    recipient = content_type = None
    if len(words) > 1 and not words[-1].startswith(RECIPIENT):
        content_type = words.pop()
    if words:
        recipient = words.pop()
    if words:
        raise ConversationError("a message's header says too much", found=repr(" ".join(words)), where=repr(text))
    recipient = None if recipient is None else recipient.removeprefix(RECIPIENT)
    return MessageHeader(header.role, header.name, recipient, header.channel, content_type)


def parse_unfinished_header(text: str, role: Role) -> tuple[MessageHeader, str]:
    """Reads a header that ended without `<|message|>`: what is neither role nor channel counts as content.

    Raises:
        ConversationError: there is no name behind `<|channel|>`.
    """
    header, words = _author_and_channel(text, role)
    return header, " ".join(words)


def _author_and_channel(text: str, role: Role | None) -> tuple[MessageHeader, list[str]]:
    """The first fields of a header, and the words that are left."""
    channel = None
    found = _CHANNEL.search(text)
    if found is not None:
        channel = found[1]
        if not channel:
            raise ConversationError(f"no channel follows {FormattingToken.CHANNEL} in a header", where=repr(text))
        text = text[: found.start()] + text[found.end() :]
    text = _OUTER_WHITESPACE.sub("", text).replace(FormattingToken.CONSTRAIN, f" {FormattingToken.CONSTRAIN}")
    words = [word for word in _ASCII_WHITESPACE.split(text) if word]
    name = None
    if role is None:
        if not words:
            raise ConversationError("a message's header names no role", where=repr(text))
        role, name = _role(words, text)
    if words and words[0] == role:
        words.pop(0)
    return MessageHeader(role, name, channel=channel), words


def _role(words: list[str], text: str) -> tuple[Role, str | None]:
    """The role that the first word says; an unknown one with a recipient is the name of a tool."""
    first = words[0]
    if first in Role:
        role = Role(first)
        return role, first if role is Role.TOOL else None
    if len(words) == 1 and not first.startswith(RECIPIENT):
        raise ConversationError(
            f"{first!r} is no role", where=repr(text), expected=f"{', '.join(Role)}, or a tool and its recipient"
        )
    words.pop(0)
    return Role.TOOL, first
