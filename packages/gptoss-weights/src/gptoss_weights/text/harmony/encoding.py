"""Harmony in the token ids of one tokenizer: prompts, training examples, stop tokens, and completions read back."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.errors import CheckpointError
from gptoss_weights.text.harmony.chat_template import GENERATION_PROMPT, ChatTemplateOptions, render_chat_template
from gptoss_weights.text.harmony.conversation import FINAL, Message, Role
from gptoss_weights.text.harmony.rendering import RenderedMessage, render_conversation, render_message
from gptoss_weights.text.harmony.special_tokens import FormattingToken
from gptoss_weights.text.tokenizer import Tokenizer, load_tokenizer

__all__ = ["EncodedConversation", "HarmonyEncoding", "MessageSpan", "load_harmony_encoding"]


@dataclass(frozen=True)
class MessageSpan:
    """Where one message stands among the tokens; all places count from the first token of the conversation.

    Args:
        message: Its place in the conversation that was given, None for one that a template adds; one that
            was left out has no span.
        role: Who speaks.
        channel: Its channel, if any.
        turn: How many messages of users stand before it, its own included.
        start: Its first token, `<|start|>`.
        sampled: From here on the model itself writes it, if it is the assistant's: behind the role, with
            which the prompt ends, or at `start`, where the assistant goes on after a message of its own.
        content: The first token of the content, behind `<|message|>`.
        end: Behind its last token, `<|end|>`, `<|return|>` or `<|call|>`.
    """

    message: int | None
    role: Role
    channel: str | None
    turn: int
    start: int
    sampled: int
    content: int
    end: int


@dataclass(frozen=True)
class EncodedConversation:
    """A conversation to be learnt from: its tokens, what is to be said at each place, and whose they are.

    Args:
        tokens: What the model reads.
        targets: What the model is to say at the same places: `tokens`, but a final message ends with
            `<|return|>` also where the history that follows it shows `<|end|>`.
        spans: The messages, in order.
    """

    tokens: list[int]
    targets: list[int]
    spans: tuple[MessageSpan, ...]

    def assistant_mask(self, *, channels: Collection[str] | None = None, last_turn_only: bool = False) -> list[bool]:
        """Which places the model is to learn: what an assistant samples itself, stop tokens included.

        Args:
            channels: Only messages of these channels; None takes all of them.
            last_turn_only: Only what follows the last message of a user.

        Returns:
            One claim per token: its target is to be learnt.
        """
        mask = [False] * len(self.tokens)
        last_turn = self.spans[-1].turn if self.spans else 0
        for span in self.spans:
            is_wanted = channels is None or span.channel in channels
            if span.role is Role.ASSISTANT and is_wanted and (not last_turn_only or span.turn == last_turn):
                mask[span.sampled : span.end] = [True] * (span.end - span.sampled)
        return mask


class HarmonyEncoding:
    """The Harmony format over one tokenizer; no network, no clock, no state.

    Args:
        tokenizer: A tokenizer that has Harmony's special tokens.

    Raises:
        CheckpointError: it has not.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        ids = {token: tokenizer.token_id(token) for token in FormattingToken}
        missing = [str(token) for token, found in ids.items() if found is None]
        if missing:
            raise CheckpointError(
                f"the tokenizer has no {', '.join(missing)}",
                where="tokenizer.json",
                expected="the special tokens of Harmony",
                fix="Take the tokenizer.json that was published with GPT-OSS, or do without chat.",
            )
        self.tokenizer = tokenizer
        self.special_ids = {token: found for token, found in ids.items() if found is not None}
        """The id of each formatting token."""
        self.stop_tokens_for_assistant_actions = frozenset(
            self.special_ids[token] for token in (FormattingToken.RETURN, FormattingToken.CALL)
        )
        """Ids at which generation stops: `<|return|>`, when all is said, and `<|call|>`, when a tool is to answer."""
        self.stop_tokens = self.stop_tokens_for_assistant_actions | {self.special_ids[FormattingToken.END]}
        """Ids that end a message: these two, and `<|end|>`, behind which the model goes on by itself."""

    def render_message(self, message: Message, *, has_functions: bool = False) -> list[int]:
        """Tokens of one message by itself; see `rendering.render_message`."""
        return self._ids(render_message(message, has_functions=has_functions).pieces)

    def render_conversation(self, messages: Sequence[Message], *, auto_drop_analysis: bool = True) -> list[int]:
        """Tokens of a conversation, as openai-harmony's method of that name gives them.

        Args:
            messages: The conversation.
            auto_drop_analysis: Leave out old reasoning; see `rendering.render_conversation`.

        Raises:
            ConversationError: a message cannot be rendered.
        """
        return self.encode(render_conversation(messages, auto_drop_analysis=auto_drop_analysis)).tokens

    def render_conversation_for_completion(
        self, messages: Sequence[Message], next_role: Role = Role.ASSISTANT, *, auto_drop_analysis: bool = True
    ) -> list[int]:
        """A prompt: the conversation, and the opening of the next message, which the model goes on with.

        Args:
            messages: The conversation.
            next_role: Whose message comes next.
            auto_drop_analysis: Leave out old reasoning; see `rendering.render_conversation`.

        Raises:
            ConversationError: a message cannot be rendered.
        """
        tokens = self.render_conversation(messages, auto_drop_analysis=auto_drop_analysis)
        return tokens + self._ids((FormattingToken.START, str(next_role)))

    def render_conversation_for_training(
        self, messages: Sequence[Message], *, auto_drop_analysis: bool = True
    ) -> EncodedConversation:
        """A training example: the last final message ends with `<|return|>`, and every message has its span.

        The tokens are those of openai-harmony's method of that name, which drops the reasoning of a
        single-turn example too, unless `auto_drop_analysis` is False.

        Raises:
            ConversationError: a message cannot be rendered.
        """
        return self.encode(render_conversation(messages, auto_drop_analysis=auto_drop_analysis, for_training=True))

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        current_date: str,
        add_generation_prompt: bool = True,
        **options: Unpack[ChatTemplateOptions],
    ) -> list[int]:
        """Tokens of messages in the chat shape, as transformers' method of that name gives them.

        Args:
            messages: The conversation; see `render_chat_template`.
            current_date: What the template asks the clock for, `YYYY-MM-DD`.
            add_generation_prompt: End with the opening of the assistant's next message.
            **options: `tools`, `builtin_tools`, `model_identity`, `reasoning_effort`.

        Raises:
            ConversationError: a message is not of its kind, or the template has no place for it.
            ValueError: there is no such built-in tool.
        """
        rendered = render_chat_template(
            messages, current_date=current_date, add_generation_prompt=add_generation_prompt, **options
        )
        return self.encode(rendered).tokens + self._ids(GENERATION_PROMPT if add_generation_prompt else ())

    def encode(self, rendered: Iterable[RenderedMessage]) -> EncodedConversation:
        """Encodes rendered messages, special tokens as one id each and every text as nothing but text."""
        tokens: list[int] = []
        targets: list[int] = []
        spans: list[MessageSpan] = []
        turn, goes_on = 0, False
        for message in rendered:
            turn += message.role is Role.USER
            opening, header = self._ids(message.opening), self._ids(message.header)
            written = opening + header + self._ids((*message.content, message.end))
            start = len(tokens)
            spans.append(
                MessageSpan(
                    message=message.message,
                    role=message.role,
                    channel=message.channel,
                    turn=turn,
                    start=start,
                    sampled=start if goes_on and message.role is Role.ASSISTANT else start + len(opening),
                    content=start + len(opening) + len(header),
                    end=start + len(written),
                )
            )
            is_final = message.role is Role.ASSISTANT and message.channel == FINAL
            goes_on = message.role is Role.ASSISTANT and message.end is FormattingToken.END and not is_final
            tokens += written
            targets += written
            if is_final and message.end is FormattingToken.END:
                targets[-1] = self.special_ids[FormattingToken.RETURN]
        return EncodedConversation(tokens, targets, tuple(spans))

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of token ids, special tokens spelled out; what is no UTF-8 becomes U+FFFD."""
        unknown = "\N{REPLACEMENT CHARACTER}".encode()
        written = (self.tokenizer.token_bytes(token) for token in tokens)
        return b"".join(unknown if each is None else each for each in written).decode("utf-8", "replace")

    def _ids(self, pieces: Iterable[str]) -> list[int]:
        ids: list[int] = []
        for piece in pieces:
            if isinstance(piece, FormattingToken):
                ids.append(self.special_ids[piece])
            else:
                ids += self.tokenizer.encode_ordinary(piece)
        return ids


def load_harmony_encoding(source: Checkpoint | Path) -> HarmonyEncoding:
    """Harmony over the tokenizer of a checkpoint, of a folder that has a `tokenizer.json`, or of the file itself.

    Raises:
        MissingDependencyError: the extra `text` is not installed.
        CheckpointError: there is no tokenizer, it cannot be read, or it lacks Harmony's special tokens.
    """
    return HarmonyEncoding(load_tokenizer(source))
