"""A conversation with an exported model: each turn is rendered, generated, and read back while it is printed."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
from gptoss_weights import ConversationError, GptOssWarning
from gptoss_weights.text.harmony import (
    COMMENTARY,
    FINAL,
    HarmonyEncoding,
    Message,
    Role,
    StreamableParser,
)

if TYPE_CHECKING:
    from gptoss_weights.sampling import Sampling

    from gptoss_onnx.results import FinishReason
    from gptoss_onnx.runtime import OnnxModel

__all__ = ["Conversation", "Show", "Turn", "is_answer", "message_document"]

type Show = Callable[[str, str | None], None]  # what is new of a message, and its channel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    """What the model has said in one turn.

    Attributes:
        prompt_tokens: What it continued.
        tokens: What it generated.
        messages: The same as messages.
        finish_reason: `stop`, or `length` where it was cut off.
        seconds: How long it took.
    """

    prompt_tokens: Sequence[int]
    tokens: Sequence[int]
    messages: Sequence[Message]
    finish_reason: "FinishReason"
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
        model: The model.
        encoding: Harmony over the checkpoint's tokenizer.
        messages: All so far; `say` and `answer_tool` add the user's, `reply` the model's.
        eos_token_ids: What ends a turn.
        max_new_tokens: The most tokens of a turn.
        max_length: The most tokens of the conversation.
        sampling: How to draw, or None.
        seed: Of the next turn; each takes another.
    """

    model: "OnnxModel"
    encoding: HarmonyEncoding
    messages: list[Message]
    eos_token_ids: Sequence[int]
    max_new_tokens: int
    max_length: int
    sampling: "Sampling | None"
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
            click.UsageError: there is no room left for an answer.

        Warns:
            GptOssWarning: the answer is no Harmony.
        """
        from gptoss_onnx import generation

        started = time.perf_counter()
        prompt = self.encoding.render_conversation_for_completion(self.messages)
        room = min(self.max_new_tokens, self.max_length - len(prompt))
        if room < 1:
            raise click.UsageError(
                f"A conversation of {len(prompt)} tokens leaves no room to answer in --max-length {self.max_length}."
            )
        news = generation.stream(
            self.model,
            [prompt],
            max_new_tokens=room,
            eos_token_ids=self.eos_token_ids,
            sampling=self.sampling,
            seed=self.seed,
        )
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
