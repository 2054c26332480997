"""What generation continues and what it says afterwards, for every command that generates.

@prompt_options
def command(prompt, tokens, as_json):
require_one_prompt(prompt, tokens)
…  # open the model
start = resolve_prompt(prompt, tokens, source=checkpoint, vocab_size=checkpoint.config.vocab_size)
…  # generate from start.tokens
Continuation(prompt=start, tokens=new, finish_reason=…, load_seconds=…, generate_seconds=…).show(as_json=as_json)
"""

import dataclasses
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from gptoss_weights.errors import CheckpointError, GptOssWarning, MissingDependencyError
from gptoss_weights.token_ids import require_known_tokens, token_ids_callback

if TYPE_CHECKING:
    from gptoss_weights.checkpoint import Checkpoint
    from gptoss_weights.text import Tokenizer

__all__ = ["Continuation", "Prompt", "prompt_options", "require_one_prompt", "resolve_prompt"]

_TOKENIZER_FILE = "tokenizer.json"


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What generation continues.

    Attributes:
        tokens: Its ids, at least one, all in the vocabulary.
        tokenizer: What turns ids into text; None if the prompt came as ids and none can be had.
    """

    tokens: list[int]
    tokenizer: "Tokenizer | None"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Continuation:
    """What a command has generated, and how long it took.

    Attributes:
        prompt: What was continued.
        tokens: The new ids.
        finish_reason: `stop` if the last id ends a sequence, else `length`.
        load_seconds: Time until the model could run.
        generate_seconds: Time for the new ids, compilation included where there is any.
    """

    prompt: Prompt
    tokens: Sequence[int]
    finish_reason: Literal["stop", "length"]
    load_seconds: float
    generate_seconds: float

    @property
    def text(self) -> str | None:
        """The new text; None without a tokenizer."""
        return None if self.prompt.tokenizer is None else self.prompt.tokenizer.decode(self.tokens)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document: `prompt_tokens`, `tokens`, `text`, `finish_reason` and `timings`."""
        return {
            "prompt_tokens": list(self.prompt.tokens),
            "tokens": list(self.tokens),
            "text": self.text,
            "finish_reason": self.finish_reason,
            "timings": {
                "load_seconds": self.load_seconds,
                "generate_seconds": self.generate_seconds,
                "tokens_per_second": len(self.tokens) / self.generate_seconds if self.generate_seconds else None,
            },
        }

    def show(self, *, as_json: bool, remark: str = "") -> None:
        """Prints the document, or the text (the ids without a tokenizer) and on standard error the timings.

        Args:
            as_json: Which of the two.
            remark: What the time includes, such as "compilation included".
        """
        if as_json:
            click.echo(json.dumps(self.to_json(), ensure_ascii=False))
            return
        text = self.text
        click.echo(",".join(map(str, self.tokens)) if text is None else text)
        self.show_timings(remark=remark)

    def show_timings(self, *, remark: str = "") -> None:
        """Prints on standard error how long it took; `remark` as in `show`."""
        timing = f"{len(self.tokens)} tokens in {self.generate_seconds:.2f} s{remark and f', {remark}'}"
        click.echo(f"{timing}; loaded in {self.load_seconds:.2f} s", err=True)


def prompt_options[Function: Callable[..., Any]](command: Function) -> Function:
    """The options `--prompt TEXT` and `--tokens IDS`: a text or None, and a list of ids or None."""
    ids = click.option("--tokens", callback=token_ids_callback, metavar="IDS", help="Token ids to continue, as 1,2,3.")
    text = click.option("--prompt", metavar="TEXT", help="Text to continue; needs the checkpoint's tokenizer.json.")
    return text(ids(command))


def require_one_prompt(prompt: str | None, tokens: Sequence[int] | None) -> None:
    """Wants a text or ids, not both; for the start of a command, before anything is loaded.

    Raises:
        click.UsageError: neither or both were given, or the text is empty.
    """
    if (prompt is None) == (tokens is None):
        raise click.UsageError("Give either --prompt or --tokens.")
    if prompt == "":
        raise click.BadParameter("the prompt is empty", param_hint="'--prompt'")


def resolve_prompt(
    prompt: str | None, tokens: Sequence[int] | None, *, source: "Checkpoint | Path", vocab_size: int
) -> Prompt:
    """The ids to continue, held against the vocabulary, and the tokenizer.

    Ids can do without a tokenizer: where there is none, where the extra is not installed, and, with
    a warning, where it is damaged.

    Args:
        prompt: A text, or None.
        tokens: Otherwise the ids.
        source: The checkpoint, or the folder, whose `tokenizer.json` serves.
        vocab_size: Size of the model's vocabulary.

    Raises:
        click.BadParameter: an id is outside the vocabulary.
        CheckpointError: text was given, and the tokenizer is missing, damaged or of another model.
        MissingDependencyError: text was given, and the extra `text` is not installed.

    Warns:
        GptOssWarning: ids were given, and the tokenizer is damaged.
    """
    from gptoss_weights.text import load_tokenizer

    if prompt is not None:
        tokenizer = load_tokenizer(source)
        return Prompt(_encoded(tokenizer, prompt, source, vocab_size), tokenizer)
    ids = list(tokens or ())
    require_known_tokens(ids, vocab_size)
    if not _has_tokenizer(source):
        return Prompt(ids, None)
    try:
        return Prompt(ids, load_tokenizer(source))
    except MissingDependencyError:
        return Prompt(ids, None)
    except CheckpointError as error:
        warnings.warn(f"{error}; the new ids are shown instead of text", GptOssWarning)
        return Prompt(ids, None)


def _encoded(tokenizer: "Tokenizer", prompt: str, source: "Checkpoint | Path", vocab_size: int) -> list[int]:
    ids = tokenizer.encode(prompt)
    if not ids:
        raise click.BadParameter("the prompt has no tokens", param_hint="'--prompt'")
    if max(ids) >= vocab_size:
        raise CheckpointError(
            "the tokenizer does not belong to these weights",
            where=_tokenizer_of(source),
            expected=f"ids below the vocabulary size {vocab_size}",
            found=max(ids),
            fix=f"Put the {_TOKENIZER_FILE} of this model there, or give token ids instead of text.",
        )
    return ids


def _has_tokenizer(source: "Checkpoint | Path") -> bool:
    path = _tokenizer_of(source)
    return path is not None and path.is_file()


def _tokenizer_of(source: "Checkpoint | Path") -> Path | None:
    if not isinstance(source, Path):
        return source.side_files.get(_TOKENIZER_FILE)
    return source / _TOKENIZER_FILE if source.is_dir() else source
