"""Records to samples: tokenized or rendered, and no longer than a row."""

import functools
from dataclasses import dataclass
from typing import Any

from gptoss_weights import CheckpointError
from gptoss_weights.text import Tokenizer
from gptoss_weights.text.harmony import HarmonyEncoding

from gptoss_train.data.config import DataConfig
from gptoss_train.data.conversations import ConversationReader, is_conversation
from gptoss_train.data.records import Document, Fields, Record, TokenSequence
from gptoss_train.data.samples import Sample, make_sample

__all__ = ["END_OF_TEXT", "ReadRecord", "RecordReader"]

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class ReadRecord:
    """What became of one record.

    Args:
        samples: Its samples, in order.
        dropped: How many were left out for their length.
        cut: How many lost their end.
        without_loss: Of how many nothing is learnt, whether they were kept or not.
    """

    samples: tuple[Sample, ...]
    dropped: int = 0
    cut: int = 0
    without_loss: int = 0


class RecordReader:
    """Reads records into samples; a pure function of the record, from several threads at once.

    Args:
        config: What is learnt from.
        vocabulary_size: Ids that the model knows.
        tokenizer: The model's; None will do where records are tokens.
        sequence_length: Tokens in a row.

    Raises:
        ValueError: there is no tokenizer, but text.
    """

    def __init__(
        self, config: DataConfig, *, vocabulary_size: int, tokenizer: Tokenizer | None, sequence_length: int
    ) -> None:
        if tokenizer is None and config.source != "synthetic":
            raise ValueError(f"source {config.source!r} needs a tokenizer")
        self._config, self._vocabulary_size, self._length = config, vocabulary_size, sequence_length
        self._tokenizer = tokenizer

    def __call__(self, record: Record) -> ReadRecord:
        """The samples of a record.

        Raises:
            CheckpointError: it is not what it should be; with file and line.
        """
        sample, is_text = self._sample(record)
        if (
            len(sample)
            and not 0 <= (largest := int(max(sample.tokens.max(), sample.targets.max()))) < self._vocabulary_size
        ):
            raise CheckpointError(
                "the tokenizer gives a token that the model has not",
                where=sample.origin,
                expected=f"ids below {self._vocabulary_size}",
                found=largest,
                fix="Take the tokenizer of the checkpoint, or a model with a larger vocabulary.",
            )
        return self._fit(sample, is_text=is_text)

    def _sample(self, record: Record) -> tuple[Sample, bool]:
        """The whole sample, and whether it may be split."""
        match record:
            case TokenSequence(origin=origin, tokens=tokens):
                return make_sample(origin, tokens), True
            case Document(origin=origin, text=text, is_end=is_end):
                return self._text_sample(origin, text, is_end=is_end), True
            case Fields():
                form = self._config.format
                if form == "conversation" or (form == "auto" and is_conversation(record, self._config.columns)):
                    return self._conversations.read(record), False
                return self._text_sample(record.origin, self._text_of(record), is_end=True), True

    def _text_of(self, fields: Fields) -> str:
        columns = self._config.columns
        text: Any = fields.values.get(columns.text)
        if isinstance(text, str):
            return text
        if text is not None:
            raise CheckpointError(
                f"column {columns.text!r} is no text",
                where=fields.origin,
                expected="a string",
                found=type(text).__name__,
            )
        expected = repr(columns.text)
        if self._config.format == "auto":
            expected += f", or {columns.messages!r}, or {columns.prompt!r} and {columns.completion!r}"
            expected += f", or {columns.question!r} and {columns.answer!r}"
        raise CheckpointError(
            "the record has no text and no conversation" if self._config.format == "auto" else "the record has no text",
            where=fields.origin,
            expected=expected,
            found=", ".join(map(repr, fields.values)) or "no column",
            fix="Name its columns in data.columns.",
        )

    def _text_sample(self, origin: str, text: str, *, is_end: bool) -> Sample:
        assert self._tokenizer is not None
        try:
            tokens = self._tokenizer.encode_ordinary(text)
        except ValueError as error:
            raise CheckpointError(str(error), where=origin) from None
        if is_end and self._config.end_of_text:
            tokens.append(self._end_of_text)
        return make_sample(origin, tokens)

    @functools.cached_property
    def _end_of_text(self) -> int:
        assert self._tokenizer is not None
        token = self._tokenizer.token_id(END_OF_TEXT)
        if token is None:
            raise CheckpointError(
                f"the tokenizer has no {END_OF_TEXT}",
                where="tokenizer.json",
                fix="Take a tokenizer that has it, or set data.end_of_text to false.",
            )
        return token

    @functools.cached_property
    def _conversations(self) -> ConversationReader:
        """Made when the first conversation comes, for a text's tokenizer need not know Harmony."""
        assert self._tokenizer is not None
        return ConversationReader(HarmonyEncoding(self._tokenizer), self._config.columns, self._config.conversation)

    def _fit(self, sample: Sample, *, is_text: bool) -> ReadRecord:
        """The sample in pieces that a row can hold."""
        if len(sample) <= self._length:
            return self._kept([sample] if len(sample) else [])
        overlong = self._config.overlong
        if overlong == "auto":
            overlong = "split" if is_text else "cut"
        if overlong == "drop":
            return ReadRecord((), dropped=1)
        if overlong == "cut":
            return self._kept([sample.piece(0, self._length)], cut=1)
        if not is_text:
            raise CheckpointError(
                f"a conversation of {len(sample)} tokens cannot be split",
                where=sample.origin,
                expected=f"at most {self._length} tokens",
                fix="Set data.overlong to 'cut' or 'drop', or sequence_length higher.",
            )
        pieces = [sample.piece(start, start + self._length) for start in range(0, len(sample), self._length)]
        # The piece before has learnt what a last token by itself would only read.
        return self._kept(pieces if len(pieces[-1]) > 1 else pieces[:-1])

    def _kept(self, samples: list[Sample], *, cut: int = 0) -> ReadRecord:
        learnt = [sample for sample in samples if sample.trained_tokens]
        kept = learnt if self._config.without_loss == "drop" else samples
        return ReadRecord(tuple(kept), cut=cut, without_loss=len(samples) - len(learnt))
