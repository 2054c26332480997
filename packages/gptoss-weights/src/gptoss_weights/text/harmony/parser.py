"""Completions read back token by token: messages when they are whole, and before that what is new of their text.

The states and the leniency are those of openai-harmony's `StreamableParser`. Text is decoded as it comes: a
character whose bytes are spread over several tokens appears with the last of them.
"""

import codecs
import enum
from collections.abc import Iterable

from gptoss_weights.errors import ConversationError
from gptoss_weights.text.harmony.conversation import Message, Role
from gptoss_weights.text.harmony.encoding import HarmonyEncoding
from gptoss_weights.text.harmony.header import MessageHeader, parse_header, parse_unfinished_header
from gptoss_weights.text.harmony.special_tokens import FormattingToken

__all__ = ["StreamState", "StreamableParser", "parse_completion"]

_UNKNOWN = "\N{REPLACEMENT CHARACTER}".encode()  # for an id that the tokenizer does not have


class StreamState(enum.Enum):
    """What the parser waits for."""

    EXPECT_START = "expect start"
    HEADER = "header"
    CONTENT = "content"


class StreamableParser:
    """Reads the tokens of a completion, one at a time.

        parser = StreamableParser(encoding, role=Role.ASSISTANT)
        for token in generated:
            delta = parser.process(token)  # what is new of parser.current_channel's text
        parser.process_eos()
        parser.messages

    Args:
        encoding: The format and its tokenizer.
        role: Whose opening the prompt ended with; None if the tokens begin with `<|start|>`.
        strict: Refuse a message that ends within its header; otherwise its text becomes the content.
    """

    def __init__(self, encoding: HarmonyEncoding, role: Role | None = Role.ASSISTANT, *, strict: bool = True) -> None:
        self._encoding = encoding
        self._strict = strict
        self._next_role = role
        self._state = StreamState.EXPECT_START if role is None else StreamState.HEADER
        self._header_bytes = bytearray()
        self._header: MessageHeader | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._content: list[str] = []
        self._delta: str | None = None
        self._messages: list[Message] = []
        self._tokens: list[int] = []

    def process(self, token: int) -> str | None:
        """Takes the next token, stop tokens included.

        Returns:
            What is new of the current message's text, as `last_content_delta`; None outside of a content,
            and while a character is incomplete.

        Raises:
            ConversationError: the token cannot stand here.
        """
        self._tokens.append(token)
        self._delta = None
        if self._state is StreamState.EXPECT_START:
            self._expect_start(token)
        elif self._state is StreamState.HEADER:
            self._read_header(token)
        elif token in self._encoding.stop_tokens:
            self._finish_message()
        else:
            self._delta = self._decoder.decode(self._bytes(token)) or None
            if self._delta is not None:
                self._content.append(self._delta)
        return self._delta

    def process_eos(self) -> None:
        """Says that no token follows: a content that has not ended becomes a message as it is.

        Raises:
            ConversationError: a header has not ended.
        """
        self._delta = None
        if self._state is StreamState.CONTENT:
            self._finish_message()
        elif self._state is StreamState.HEADER:
            found = self._header_bytes.decode("utf-8", "replace")
            raise ConversationError("the tokens end within a message's header", found=repr(found))

    @property
    def state(self) -> StreamState:
        """What the parser waits for."""
        return self._state

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages that are whole."""
        return tuple(self._messages)

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens that came so far."""
        return tuple(self._tokens)

    @property
    def current_role(self) -> Role | None:
        """Who speaks in the current message, once that is known."""
        return self._next_role if self._header is None else self._header.role

    @property
    def current_channel(self) -> str | None:
        """The channel of the current message, once its header is whole."""
        return None if self._header is None else self._header.channel

    @property
    def current_recipient(self) -> str | None:
        """To whom the current message goes, once its header is whole."""
        return None if self._header is None else self._header.recipient

    @property
    def current_content_type(self) -> str | None:
        """What the current content is written in, once its header is whole."""
        return None if self._header is None else self._header.content_type

    @property
    def current_content(self) -> str:
        """The text of the current message so far."""
        return "".join(self._content)

    @property
    def last_content_delta(self) -> str | None:
        """What the last token added to the content."""
        return self._delta

    def _expect_start(self, token: int) -> None:
        start = self._encoding.special_ids[FormattingToken.START]
        if token != start:
            raise ConversationError(
                "a message does not begin with <|start|>",
                where=f"token {len(self._tokens) - 1}",
                expected=start,
                found=f"{token}, {self._encoding.decode([token])!r}",
            )
        self._header_bytes.clear()
        self._state = StreamState.HEADER

    def _read_header(self, token: int) -> None:
        if token == self._encoding.special_ids[FormattingToken.MESSAGE]:
            self._state = StreamState.EXPECT_START  # where a broken header leaves the parser
            self._header = parse_header(self._header_text(), self._next_role)
            self._next_role = None
            self._state = StreamState.CONTENT
        elif not self._strict and token in self._encoding.stop_tokens:
            if self._next_role is not None and self._header_bytes:
                header, text = parse_unfinished_header(self._header_text(), self._next_role)
                self._messages.append(_message(header, text))
            self._next_role = None
            self._state = StreamState.EXPECT_START
        else:
            self._header_bytes += self._bytes(token)

    def _finish_message(self) -> None:
        assert self._header is not None, "content has a header"
        self._content.append(self._decoder.decode(b"", final=True))
        self._messages.append(_message(self._header, self.current_content))
        self._content.clear()
        self._header = None
        self._state = StreamState.EXPECT_START

    def _header_text(self) -> str:
        try:
            return self._header_bytes.decode()
        except UnicodeDecodeError as error:
            raise ConversationError("a message's header is not UTF-8", found=error.reason) from None

    def _bytes(self, token: int) -> bytes:
        written = self._encoding.tokenizer.token_bytes(token)
        return _UNKNOWN if written is None else written


def parse_completion(
    encoding: HarmonyEncoding, tokens: Iterable[int], role: Role | None = Role.ASSISTANT, *, strict: bool = True
) -> list[Message]:
    """The messages of a whole completion; openai-harmony's `parse_messages_from_completion_tokens`.

    Args:
        encoding: The format and its tokenizer.
        tokens: What was generated, with its stop token or without.
        role: Whose opening the prompt ended with; None if the tokens begin with `<|start|>`.
        strict: Refuse a message that ends within its header; otherwise its text becomes the content.

    Raises:
        ConversationError: the tokens are no Harmony; so is, strictly or not, an end within a header.
    """
    parser = StreamableParser(encoding, role, strict=strict)
    for token in tokens:
        parser.process(token)
    parser.process_eos()
    return list(parser.messages)


def _message(header: MessageHeader, text: str) -> Message:
    return Message(
        role=header.role,
        content=text,
        name=header.name,
        recipient=header.recipient,
        channel=header.channel,
        content_type=header.content_type,
    )
