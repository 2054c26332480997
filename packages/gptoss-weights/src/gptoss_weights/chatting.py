"""The command `chat` of every engine: its options, where the conversation begins, and how it is shown.

@chat_options
def command(source, request: ChatRequest):
    chat = request.begin(folder)           # reads the tokenizer, the messages, standard input
    eos = chat.end_of_turn(eos_token_ids)
    …                                      # load the model, which makes `generate`
    chat.run(generate, eos)                # one answer, or turn by turn on a terminal
"""

import dataclasses
import datetime
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptoss_weights.sampling_options import sampling_options

if TYPE_CHECKING:
    from gptoss_weights.checkpoint import Checkpoint
    from gptoss_weights.sampling import Sampling
    from gptoss_weights.text.conversing import Conversation, Generate, Show, Turn
    from gptoss_weights.text.harmony import HarmonyEncoding, Message

__all__ = ["Chat", "ChatRequest", "chat_options"]

TODAY = "today"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """What the options say.

    Attributes:
        message: What the user says, if the command line tells it.
        conversation: A file of messages to begin with.
        instructions: Of the developer.
        reasoning: The effort: low, medium or high.
        date: What the model is told of the day.
        show_reasoning: Whether what is not the answer is printed too.
        max_new_tokens: The most a turn.
        max_length: The most of the whole conversation.
        sampling: How to draw, or None.
        seed: Of the draws.
        as_json: Whether a JSON document is printed instead of text.
    """

    message: str | None
    conversation: Path | None
    instructions: str | None
    reasoning: str
    date: str | None
    show_reasoning: bool
    max_new_tokens: int
    max_length: int
    sampling: "Sampling | None"
    seed: int
    as_json: bool

    def begin(self, source: "Checkpoint | Path") -> "Chat":
        """Reads the tokenizer, the file of messages, and what stands on standard input.

        Args:
            source: The checkpoint, or the folder, that holds the tokenizer.

        Raises:
            CheckpointError: there is no tokenizer, or the file is none of messages.
            click.UsageError: there is nothing to answer.
        """
        if self.as_json and self.message is None and self.conversation is None and sys.stdin.isatty():
            raise click.UsageError("--json prints one answer; say what to with --message or --conversation.")
        from gptoss_weights.text.harmony import load_harmony_encoding

        encoding = load_harmony_encoding(source)
        messages = self._messages()
        awaits_answer = messages[-1].role in ("user", "tool")
        is_interactive = self.message is None and sys.stdin.isatty() and not awaits_answer
        first = self.message
        if first is None and not is_interactive and not awaits_answer:
            try:
                first = sys.stdin.read().strip()
            except UnicodeDecodeError as error:
                raise click.UsageError(f"Standard input is no UTF-8: {error.reason} at byte {error.start}.") from None
            if not first:
                raise click.UsageError("Standard input is empty; give a message there or with --message.")
        if first is not None and not first.strip():
            raise click.UsageError("The message is empty.")
        return Chat(self, encoding, messages, first, is_interactive=is_interactive)

    def _messages(self) -> "list[Message]":
        """The system message, the instructions, and the messages of the file."""
        from gptoss_weights.errors import CheckpointError
        from gptoss_weights.json_files import load_json_object
        from gptoss_weights.text.harmony import ReasoningEffort, SystemContent, conversation_from_json

        path = self.conversation
        document: dict[str, Any] = {"messages": []}
        if path is not None:
            document = load_json_object(path, what="the conversation")
            for key, value in {"messages": document.get("messages"), "tools": document.get("tools", [])}.items():
                if not isinstance(value, list):
                    raise CheckpointError(f"{key!r} is no list", where=path, found=type(value).__name__)
        given: list[Any] = [] if self.instructions is None else [{"role": "developer", "content": self.instructions}]
        effort = ReasoningEffort(self.reasoning)
        system = SystemContent(reasoning_effort=effort, conversation_start_date=self.date)
        return conversation_from_json([*given, *document["messages"]], tools=document.get("tools"), system=system)


class Chat:
    """A conversation that has begun and has no engine yet; see `ChatRequest.begin`."""

    def __init__(
        self,
        request: ChatRequest,
        encoding: "HarmonyEncoding",
        messages: "list[Message]",
        first: str | None,
        *,
        is_interactive: bool,
    ) -> None:
        self._request, self._encoding, self._messages, self._first = request, encoding, messages, first
        self._is_interactive = is_interactive
        self._began = time.perf_counter()

    def end_of_turn(self, eos_token_ids: Sequence[int]) -> list[int]:
        """Ids that end a turn: Harmony's, and the checkpoint's own."""
        return sorted({*self._encoding.stop_tokens_for_assistant_actions, *eos_token_ids})

    def run(self, generate: "Generate", eos_token_ids: Sequence[int]) -> None:
        """Answers once, or converses turn by turn where somebody types.

        Args:
            generate: The engine, loaded.
            eos_token_ids: What it stops at; see `end_of_turn`.

        Raises:
            click.UsageError: there is no room left for an answer.
        """
        from gptoss_weights.text.conversing import Conversation

        request = self._request
        loaded = time.perf_counter()
        talk = Conversation(
            generate=generate,
            encoding=self._encoding,
            messages=self._messages,
            eos_token_ids=eos_token_ids,
            max_new_tokens=request.max_new_tokens,
            max_length=request.max_length,
            seed=request.seed,
        )
        if self._is_interactive:
            _converse(talk, show_reasoning=request.show_reasoning)
            return
        if self._first is not None:
            talk.say(self._first)
        turn = _reply(talk, _ignore if request.as_json else _printer(show_reasoning=request.show_reasoning))
        if request.as_json:
            timings = {"load_seconds": loaded - self._began, "generate_seconds": turn.seconds}
            _print_document(turn, timings)
        else:
            _close(turn)


def chat_options[Function: Callable[..., Any]](command: Function) -> Callable[..., Any]:
    """Adds the options of a chat, and hands `request` over."""

    @functools.wraps(command)
    def wrapped(*args: Any, **options: Any) -> Any:
        fields = [field.name for field in dataclasses.fields(ChatRequest)]
        request = ChatRequest(**{name: options.pop(name) for name in fields})
        return command(*args, request=request, **options)

    with_sampling = sampling_options(wrapped)
    for option in reversed(_OPTIONS):
        with_sampling = option(with_sampling)
    return with_sampling


def _date(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    if value == TODAY:
        return datetime.date.today().isoformat()
    try:
        return datetime.date.fromisoformat(value).isoformat()
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a date such as 2025-08-05 nor {TODAY!r}") from None


_OPTIONS = (
    click.option("--message", metavar="TEXT", help="Say this, print the answer, and end."),
    click.option(
        "--conversation",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Begin with the `messages`, and maybe `tools`, of a JSON object, as OpenAI's API takes them.",
    ),
    click.option("--instructions", metavar="TEXT", help="What elsewhere is called the system prompt."),
    click.option(
        "--reasoning",
        type=click.Choice(["low", "medium", "high"]),
        default="medium",
        show_default=True,
        help="How long to think before answering.",
    ),
    click.option("--date", callback=_date, metavar="DATE", help=f"The day to tell the model, 2025-08-05 or {TODAY}."),
    click.option("--show-reasoning", is_flag=True, help="Print what is not the answer too, on standard error."),
    click.option(
        "--max-new-tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="The most a turn."
    ),
    click.option(
        "--max-length",
        type=click.IntRange(min=1),
        default=4096,
        show_default=True,
        help="The most tokens of the whole conversation, which the KV cache has room for.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text."),
)


def _converse(talk: "Conversation", *, show_reasoning: bool) -> None:
    """Turn by turn, until there is nothing more to say."""
    tool: str | None = None
    while True:
        try:
            said = input(f"{tool or 'you'}> ").strip()
        except EOFError:
            click.echo()
            return
        if not said:
            return
        if tool is None:
            talk.say(said)
        else:
            talk.answer_tool(tool, said)
        turn = _reply(talk, _printer(show_reasoning=show_reasoning))
        tool = turn.called_tool
        _close(turn)


def _reply(talk: "Conversation", show: "Show") -> "Turn":
    from gptoss_weights.text.conversing import NoRoomError

    try:
        return talk.reply(show)
    except NoRoomError as error:
        raise click.UsageError(
            f"A conversation of {error.prompt_length} tokens leaves no room to answer in --max-length "
            f"{talk.max_length}."
        ) from None


def _printer(*, show_reasoning: bool) -> "Show":
    """Prints answers, and on standard error the rest if that is wanted."""
    from gptoss_weights.text.conversing import is_answer

    def show(text: str, channel: str | None) -> None:
        if is_answer(channel):
            click.echo(text, nl=False)
        elif show_reasoning:
            click.secho(text, nl=False, err=True, dim=True)

    return show


def _ignore(_text: str, _channel: str | None) -> None:
    """Shows nothing."""


def _print_document(turn: "Turn", timings: dict[str, float]) -> None:
    from gptoss_weights.text.conversing import message_document

    document = {
        "prompt_tokens": turn.prompt_tokens,
        "tokens": turn.tokens,
        "messages": [message_document(said) for said in turn.messages],
        "finish_reason": turn.finish_reason,
        "timings": timings,
    }
    click.echo(json.dumps(document, ensure_ascii=False))


def _close(turn: "Turn") -> None:
    """Ends the line of an answer, and says what is none: a call, or that there was no end."""
    from gptoss_weights.text.conversing import is_answer

    if any(is_answer(said.channel) for said in turn.messages):
        click.echo()
    if turn.called_tool is not None:
        click.echo(f"[calls {turn.called_tool} with {turn.messages[-1].text}]")
    if turn.finish_reason == "length":
        click.echo(f"cut off after {len(turn.tokens)} tokens; --max-new-tokens and --max-length allow more", err=True)
