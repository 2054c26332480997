"""Conversations of a table's rows as samples: rendered once by the Harmony code, which says whose tokens are whose."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gptoss_weights import CheckpointError, ConversationError
from gptoss_weights.text.harmony import (
    ANALYSIS,
    EncodedConversation,
    HarmonyEncoding,
    Message,
    ReasoningEffort,
    Role,
    SystemContent,
    conversation_from_json,
    render_conversation,
)

from gptoss_train.data.config import ColumnsConfig, ConversationConfig
from gptoss_train.data.records import Fields
from gptoss_train.data.samples import Sample, SampleSpan, make_sample

__all__ = ["ConversationReader", "is_conversation"]

type PlacedMessages = list[tuple[str, Mapping[str, Any]]]
"""Messages in JSON, each behind what errors call it: its column, and its place in the list there."""


def is_conversation(fields: Fields, columns: ColumnsConfig) -> bool:
    """Whether a row has the columns of a conversation."""
    pairs = ((columns.prompt, columns.completion), (columns.question, columns.answer))
    return _has(fields, columns.messages) or any(_has(fields, *pair) for pair in pairs)


class ConversationReader:
    """Reads a row into a sample.

    Args:
        encoding: Harmony over the model's tokenizer.
        columns: The names of the columns.
        config: How to render, and what to learn.
    """

    def __init__(self, encoding: HarmonyEncoding, columns: ColumnsConfig, config: ConversationConfig) -> None:
        self._encoding, self._columns, self._config = encoding, columns, config

    def read(self, fields: Fields) -> Sample:
        """The sample of a row.

        Raises:
            CheckpointError: a column is missing, or is not of its kind; with file and line.
        """
        try:
            conversation, first_learnt = self._conversation(fields)
            encoded = self._encode(conversation)
        except ConversationError as error:
            where = fields.origin if error.where is None else f"{fields.origin}, {self._column(str(error.where))}"
            raise CheckpointError(
                error.what, where=where, expected=error.expected, found=error.found, fix=error.fix
            ) from None
        except ValueError as error:  # a schema's default that is no JSON, half of a surrogate pair
            raise CheckpointError(f"the conversation cannot be written: {error}", where=fields.origin) from None
        spans = tuple(SampleSpan(span.role, span.channel, span.start, span.end) for span in encoded.spans)
        is_learnt = self._is_learnt(encoded, first_learnt)
        return make_sample(fields.origin, encoded.tokens, said=encoded.targets, is_learnt=is_learnt, spans=spans)

    def _conversation(self, fields: Fields) -> tuple[list[Message], int]:
        """The conversation, and the place of the first message of which may be learnt."""
        columns, values = self._columns, fields.values
        system, tools = self._system(fields), self._tools(fields)
        if _has(fields, columns.messages):
            messages = _messages(values[columns.messages], columns.messages)
            return self._read(messages, tools=tools, system=system), 0
        for asked, answered in ((columns.prompt, columns.completion), (columns.question, columns.answer)):
            if _has(fields, asked, answered):
                before = self._before(fields, asked)
                after = self._after(fields, answered)
                learnt_from = len(self._read(before, tools=tools, system=system))
                return self._read([*before, *after], tools=tools, system=system), learnt_from
        wanted = f"{columns.prompt!r} and {columns.completion!r}, or {columns.question!r} and {columns.answer!r}"
        raise ConversationError(
            "the record is no conversation",
            expected=f"{columns.messages!r}, or {wanted}",
            found=", ".join(map(repr, values)) or "no column",
            fix="Name its columns in data.columns.",
        )

    def _before(self, fields: Fields, column: str) -> PlacedMessages:
        asked, instructions = fields.values[column], fields.values.get(self._columns.instructions)
        before: PlacedMessages = []
        if instructions is not None:
            place = self._columns.instructions
            before.append((place, {"role": "developer", "content": _text(instructions, place)}))
        if isinstance(asked, str):
            return [*before, (column, {"role": "user", "content": asked})]
        return [*before, *_messages(asked, column, "text, or a list of messages")]

    def _after(self, fields: Fields, column: str) -> PlacedMessages:
        answered, thinking = fields.values[column], fields.values.get(self._columns.thinking)
        if isinstance(answered, str):
            said = {"role": "assistant", "content": answered}
            reasoned = {} if thinking is None else {"thinking": _text(thinking, self._columns.thinking)}
            return [(column, said | reasoned)]
        if thinking is not None:
            raise ConversationError(
                "the reasoning of messages stands in them",
                where=self._columns.thinking,
                fix="Give it as the `thinking` of a message, or the answer as text.",
            )
        return _messages(answered, column, "text, or a list of messages")

    def _column(self, place: str) -> str:
        """The column of a place in a message that was made of columns of text; other places as they are."""
        columns = self._columns
        message, _, field = place.rpartition(".")
        if message in (columns.prompt, columns.completion, columns.question, columns.answer, columns.instructions):
            return columns.thinking if field == "thinking" else message
        return place

    def _system(self, fields: Fields) -> SystemContent:
        column = self._columns.reasoning_effort
        effort = fields.values.get(column)
        effort = self._config.reasoning_effort if effort is None else effort
        if not isinstance(effort, str) or effort not in ReasoningEffort:
            raise ConversationError(
                "there is no such effort", where=column, expected=", ".join(ReasoningEffort), found=repr(effort)
            )
        return SystemContent(
            model_identity=self._config.model_identity,
            knowledge_cutoff=self._config.knowledge_cutoff,
            conversation_start_date=self._config.current_date,
            reasoning_effort=ReasoningEffort(effort),
        )

    def _tools(self, fields: Fields) -> Sequence[Mapping[str, Any]] | None:
        column = self._columns.tools
        tools = fields.values.get(column)
        if isinstance(tools, str):  # a table has one type a column, so tools often stand in it as their JSON
            try:
                tools = json.loads(tools)
            except ValueError as error:
                raise ConversationError(f"the tools are no JSON ({error})", where=column) from None
        if tools is not None and not isinstance(tools, list):
            raise ConversationError("the tools are no list", where=column, found=type(tools).__name__)
        return tools

    def _read(
        self, messages: PlacedMessages, *, tools: Sequence[Mapping[str, Any]] | None, system: SystemContent
    ) -> list[Message]:
        return conversation_from_json(
            [message for _, message in messages],
            tools=tools,
            system=system,
            places=[place for place, _ in messages],
            tools_place=self._columns.tools,
        )

    def _encode(self, conversation: list[Message]) -> EncodedConversation:
        kept = self._config.reasoning_kept
        rendered = render_conversation(conversation, auto_drop_analysis=kept == "harmony", for_training=True)
        if kept == "last_turn":
            users = [place for place, message in enumerate(conversation) if message.role is Role.USER]
            last = users[-1] if users else 0
            rendered = [
                message for message in rendered if message.channel != ANALYSIS or (message.message or 0) >= last
            ]
        return self._encoding.encode(rendered)

    def _is_learnt(self, encoded: EncodedConversation, first_learnt: int) -> list[bool]:
        if self._config.loss_on == "all":
            return [True] * len(encoded.tokens)
        mask = encoded.assistant_mask(channels=self._config.channels, last_turn_only=self._config.turns == "last")
        for span in encoded.spans:
            if span.message is not None and span.message < first_learnt:
                mask[span.start : span.end] = [False] * (span.end - span.start)
        return mask


def _has(fields: Fields, *columns: str) -> bool:
    return all(fields.values.get(column) is not None for column in columns)


def _messages(value: object, column: str, expected: str = "a list of messages") -> PlacedMessages:
    if not isinstance(value, list) or not value:
        found = "an empty list" if value == [] else type(value).__name__
        raise ConversationError("these are no messages", where=column, expected=expected, found=found)
    return [(f"{column}[{number}]", message) for number, message in enumerate(value)]


def _text(value: object, column: str) -> str:
    if not isinstance(value, str):
        raise ConversationError("this must be text", where=column, expected="a string", found=type(value).__name__)
    return value
