"""`gptoss-onnx chat`: talk with an exported model in its chat format, Harmony."""

import datetime
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from gptoss_weights.sampling_options import sampling_options

from gptoss_onnx.cli.options import as_json, as_usage_error, model_argument, session_options, tokenizer_folder

if TYPE_CHECKING:
    from gptoss_weights.sampling import Sampling
    from gptoss_weights.text.harmony import Message

    from gptoss_onnx.cli.conversing import Conversation, Show, Turn
    from gptoss_onnx.session import Mode

__all__ = ["chat_command"]

TODAY = "today"


def _date(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    if value == TODAY:
        return datetime.date.today().isoformat()
    try:
        return datetime.date.fromisoformat(value).isoformat()
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a date such as 2025-08-05 nor {TODAY!r}") from None


@click.command("chat")
@model_argument
@click.option("--message", metavar="TEXT", help="Say this, print the answer, and end.")
@click.option(
    "--conversation",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Begin with the `messages`, and maybe `tools`, of a JSON object, as OpenAI's API takes them.",
)
@click.option("--instructions", metavar="TEXT", help="What elsewhere is called the system prompt.")
@click.option(
    "--reasoning",
    type=click.Choice(["low", "medium", "high"]),
    default="medium",
    show_default=True,
    help="How long to think before answering.",
)
@click.option("--date", callback=_date, metavar="DATE", help=f"The day to tell the model, 2025-08-05 or {TODAY}.")
@click.option("--show-reasoning", is_flag=True, help="Print what is not the answer too, on standard error.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="The most a turn.")
@click.option(
    "--max-length",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    help="The most tokens of the whole conversation.",
)
@sampling_options
@session_options
@as_json
def chat_command(
    model: Path,
    message: str | None,
    conversation: Path | None,
    instructions: str | None,
    reasoning: str,
    date: str | None,
    show_reasoning: bool,
    max_new_tokens: int,
    max_length: int,
    sampling: "Sampling | None",
    seed: int,
    mode: "Mode",
    threads: int | None,
    as_json: bool,
) -> None:
    """Talks with the exported MODEL; needs its tokenizer.json.

    On a terminal it is a conversation, line by line, until an empty line or the end of input. Otherwise
    the message is that of --message, or all of standard input. Where the model calls a tool, the call
    is shown, and what you type next is the tool's answer. Greedy unless a temperature is given; the
    published models were made for --temperature 1.

    \b
    Examples:
      gptoss-onnx chat gpt-oss-20b-onnx --temperature 1
      gptoss-onnx chat gpt-oss-20b-onnx --message "What is 2 + 2?" --reasoning low --json
      gptoss-onnx chat gpt-oss-20b-onnx --conversation messages.json --date today
    """  # noqa: D301 - the backslash is meant for click
    if as_json and message is None and conversation is None and sys.stdin.isatty():
        raise click.UsageError("--json prints one answer; say what to with --message or --conversation.")
    from gptoss_weights.text.harmony import load_harmony_encoding

    from gptoss_onnx.runtime import OnnxModel

    began = time.perf_counter()
    encoding = load_harmony_encoding(tokenizer_folder(model))
    messages = _beginning(conversation, instructions, reasoning, date)
    is_interactive = message is None and sys.stdin.isatty() and not _awaits_answer(messages)
    first = message
    if first is None and not is_interactive and not _awaits_answer(messages):
        first = sys.stdin.read().strip()
        if not first:
            raise click.UsageError("Standard input is empty; give a message there or with --message.")

    from gptoss_onnx.cli.conversing import Conversation, message_document

    with as_usage_error():
        opened = OnnxModel.open(model, threads=threads, mode=mode)
    talk = Conversation(
        model=opened,
        encoding=encoding,
        messages=messages,
        eos_token_ids=sorted({*encoding.stop_tokens_for_assistant_actions, *opened.metadata.eos_token_ids}),
        max_new_tokens=max_new_tokens,
        max_length=max_length,
        sampling=sampling,
        seed=seed,
    )
    if is_interactive:
        _converse(talk, show_reasoning=show_reasoning)
        return
    if first is not None:
        talk.say(first)
    loaded = time.perf_counter()
    turn = talk.reply(_ignore if as_json else _printer(show_reasoning=show_reasoning))
    if as_json:
        timings = {"load_seconds": loaded - began, "generate_seconds": turn.seconds}
        document = {
            "prompt_tokens": turn.prompt_tokens,
            "tokens": turn.tokens,
            "messages": [message_document(said) for said in turn.messages],
            "finish_reason": turn.finish_reason,
            "timings": timings,
        }
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        _close(turn)


def _beginning(path: Path | None, instructions: str | None, reasoning: str, date: str | None) -> "list[Message]":
    """The system message, the instructions, and the messages of a file."""
    from gptoss_weights import CheckpointError
    from gptoss_weights.json_files import load_json_object
    from gptoss_weights.text.harmony import ReasoningEffort, SystemContent, conversation_from_json

    document: dict[str, Any] = {"messages": []}
    if path is not None:
        document = load_json_object(path, what="the conversation")
        for key, value in {"messages": document.get("messages"), "tools": document.get("tools", [])}.items():
            if not isinstance(value, list):
                raise CheckpointError(f"{key!r} is no list", where=path, found=type(value).__name__)
    given: list[Any] = [] if instructions is None else [{"role": "developer", "content": instructions}]
    system = SystemContent(reasoning_effort=ReasoningEffort(reasoning), conversation_start_date=date)
    return conversation_from_json([*given, *document["messages"]], tools=document.get("tools"), system=system)


def _awaits_answer(messages: "Sequence[Message]") -> bool:
    return messages[-1].role in ("user", "tool")


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
        turn = talk.reply(_printer(show_reasoning=show_reasoning))
        tool = turn.called_tool
        _close(turn)


def _printer(*, show_reasoning: bool) -> "Show":
    """Prints answers, and on standard error the rest if that is wanted."""
    from gptoss_onnx.cli.conversing import is_answer

    def show(text: str, channel: str | None) -> None:
        if is_answer(channel):
            click.echo(text, nl=False)
        elif show_reasoning:
            click.secho(text, nl=False, err=True, dim=True)

    return show


def _ignore(_text: str, _channel: str | None) -> None:
    """Shows nothing."""


def _close(turn: "Turn") -> None:
    """Ends the line of an answer, and says what is none: a call, or that there was no end."""
    from gptoss_onnx.cli.conversing import is_answer

    if any(is_answer(said.channel) for said in turn.messages):
        click.echo()
    if turn.called_tool is not None:
        click.echo(f"[calls {turn.called_tool} with {turn.messages[-1].text}]")
    if turn.finish_reason == "length":
        click.echo(f"cut off after {len(turn.tokens)} tokens; --max-new-tokens and --max-length allow more", err=True)
