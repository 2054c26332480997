"""A conversation with a model, whatever runs it: each turn is rendered, generated, and read back as it comes."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from gptoss_weights.completions import FinishReason, NewToken
from gptoss_weights.errors import ConversationError, GptOssWarning
from gptoss_weights.text.harmony import (
    COMMENTARY,
    FINAL,
    HarmonyEncoding,
    Message,
    Role,
    StreamableParser,
)

__all__ = [
    "Conversation",
    "Generate",
    "NoRoomError",
    "Show",
    "Turn",
    "is_answer",
    "message_document",
]

type Show = Callable[[str, str | None], None]
"""Is given what is new of a message, and its channel."""


class NoRoomError(ValueError):
    """A conversation of `prompt_length` tokens leaves no room for an answer."""

    def __init__(self, prompt_length: int, max_length: int) -> None:
        super().__init__(f"a conversation of {prompt_length} tokens leaves no room to answer in {max_length}")
        self.prompt_length = prompt_length


class Generate(Protocol):
    """What an engine does for a conversation."""

    def __call__(self, prompt: list[int], *, max_new_tokens: int, seed: int) -> Iterator[NewToken]:
        """Continues a prompt, up to the first id that ends a turn."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    """What the model has said in one turn.

    Attributes:
        prompt_tokens: What it continued.
        tokens: What it generated.
        messages: The same as messages.
        finish_reason: `stop`, or `length` where it was cut off.
        seconds: How long it took, compilation included where there is any.
    """

    prompt_tokens: Sequence[int]
    tokens: Sequence[int]
    messages: Sequence[Message]
    finish_reason: FinishReason
    seconds: float

    @property
    def called_tool(self) -> str | None:
        """The tool whose answer the model waits for."""
        last = self.messages[-1] if self.messages else None
        return None if last is None or last.recipient in (None, "all", "assistant") else last.recipient


@dataclasses.dataclass(kw_only=True)
class Conversation:
    """The messages so far, and how to get the next.

    Attributes:
        generate: The engine.
        encoding: Harmony over the checkpoint's tokenizer.
        messages: All so far; `say` and `answer_tool` add the user's, `reply` the model's.
        eos_token_ids: What ends a turn; the engine stops there.
        max_new_tokens: The most tokens of a turn.
        max_length: The most tokens of the conversation.
        seed: Of the next turn; each takes another.
    """

    generate: Generate
    encoding: HarmonyEncoding
    messages: list[Message]
    eos_token_ids: Sequence[int]
    max_new_tokens: int
    max_length: int
    seed: int

    def say(self, text: str) -> None:
        """Adds what the user says."""
        self.messages.append(Message(Role.USER, text))

    def answer_tool(self, name: str, text: str) -> None:
        """Adds what a tool answers."""
        self.messages.append(Message(Role.TOOL, text, name=name, recipient="assistant", channel=COMMENTARY))

    def reply(self, show: Show) -> Turn:
        """Generates the model's turn and adds its messages.

        An answer that is no Harmony, as of a model that was not trained on it, is shown and kept as it
        is, special tokens spelled out.

        Args:
            show: Called with each new piece of a message's text.

        Raises:
            NoRoomError: there is no room left for an answer.

        Warns:
            GptOssWarning: the answer is no Harmony.
        """
        started = time.perf_counter()
        prompt = self.encoding.render_conversation_for_completion(self.messages)
        room = min(self.max_new_tokens, self.max_length - len(prompt))
        if room < 1:
            raise NoRoomError(len(prompt), self.max_length)
        news = self.generate(prompt, max_new_tokens=room, seed=self.seed)
        self.seed += 1
        tokens: list[int] = []
        reason: FinishReason = "length"
        parser = StreamableParser(self.encoding)
        try:
            for new in news:
                tokens.append(new.token)
                reason = new.finish_reason or reason
                # An end-of-sequence id that is not Harmony's ends the message, and is none of its text.
                if reason == "length" or new.token in self.encoding.stop_tokens:
                    delta = parser.process(new.token)
                    if delta:
                        show(delta, parser.current_channel)
            parser.process_eos()
            said = list(parser.messages)
        except ConversationError as error:
            warnings.warn(f"the answer is no Harmony, and shown as it is: {error}", GptOssWarning)
            for new in news:
                tokens.append(new.token)
                reason = new.finish_reason or reason
            text = self.encoding.decode(token for token in tokens if token not in self.eos_token_ids)
            said = [Message(Role.ASSISTANT, text, channel=FINAL)]
            show(text, FINAL)
        self.messages.extend(said)
        return Turn(
            prompt_tokens=prompt,
            tokens=tokens,
            messages=said,
            finish_reason=reason,
            seconds=time.perf_counter() - started,
        )


def message_document(message: Message) -> dict[str, Any]:
    """One message for JSON; what it does not have is left out."""
    fields = {
        "role": str(message.role),
        "channel": message.channel,
        "recipient": message.recipient,
        "content_type": message.content_type,
        "content": message.text,
    }
    return {name: value for name, value in fields.items() if value is not None}


def is_answer(channel: str | None) -> bool:
    """Whether a channel is for the user's eyes; the others hold reasoning and calls."""
    return channel in (None, FINAL)
