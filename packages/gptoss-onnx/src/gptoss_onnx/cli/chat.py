"""`gptoss-onnx chat`: talk with an exported model in its chat format, Harmony."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from gptoss_weights.chatting import ChatRequest, chat_options

from gptoss_onnx.cli.options import as_usage_error, model_argument, session_options, tokenizer_folder

if TYPE_CHECKING:
    from gptoss_weights.completions import NewToken

    from gptoss_onnx.session import Mode

__all__ = ["chat_command"]


@click.command("chat")
@model_argument
@chat_options
@session_options
def chat_command(model: Path, request: ChatRequest, mode: "Mode", threads: int | None) -> None:
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
    chat = request.begin(tokenizer_folder(model))
    from gptoss_onnx.runtime import OnnxModel

    with as_usage_error():
        opened = OnnxModel.open(model, threads=threads, mode=mode)
    ends = chat.end_of_turn(opened.metadata.eos_token_ids)

    def generate(prompt: list[int], *, max_new_tokens: int, seed: int) -> "Iterator[NewToken]":
        from gptoss_onnx import generation

        return generation.stream(
            opened,
            [prompt],
            max_new_tokens=max_new_tokens,
            eos_token_ids=ends,
            sampling=request.sampling,
            seed=seed,
        )

    chat.run(generate, ends)
