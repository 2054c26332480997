"""`gptoss-model chat`: talk with a model in its chat format, Harmony."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from gptoss_weights.chatting import ChatRequest, chat_options

from gptoss_model.cli.options import ModelSource, model_options
from gptoss_model.cli.status import until_first

if TYPE_CHECKING:
    from gptoss_model.generation import NewToken

__all__ = ["chat_command"]


@click.command("chat")
@model_options
@chat_options
def chat_command(source: ModelSource, request: ChatRequest) -> None:
    """Talk with the model in CHECKPOINT; needs its tokenizer.json.

    On a terminal it is a conversation, line by line, until an empty line or the end of input. Otherwise
    the message is that of --message, or all of standard input. Where the model calls a tool, the call
    is shown, and what you type next is the tool's answer. Greedy unless a temperature is given; the
    published models were made for --temperature 1.

    \b
    Examples:
      gptoss-model chat gpt-oss-20b --temperature 1
      gptoss-model chat gpt-oss-20b --message "What is 2 + 2?" --reasoning low --json
      gptoss-model chat gpt-oss-20b --conversation messages.json --date today
    """  # noqa: D301 - the backslash is meant for click
    opened = source.open()
    from gptoss_weights.stop_tokens import eos_token_ids

    chat = request.begin(opened)
    ends = chat.end_of_turn(eos_token_ids(opened))
    model = source.load(opened)

    def generate(prompt: list[int], *, max_new_tokens: int, seed: int) -> "Iterator[NewToken]":
        from gptoss_model.generation import stream

        answer = stream(
            model,
            [prompt],
            max_new_tokens=max_new_tokens,
            eos_token_ids=ends,
            sampling=request.sampling,
            seed=seed,
            max_length=request.max_length,
        )
        return until_first("reading the conversation", answer)

    chat.run(generate, ends)
