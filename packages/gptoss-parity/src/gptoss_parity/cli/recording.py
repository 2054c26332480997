"""One source on one checkpoint, as the commands `record` and `golden` run it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptoss_parity.cli.source_options import SourceChoice, SourceSettings
from gptoss_parity.sources import LoadingSource, make_source

if TYPE_CHECKING:
    from gptoss_weights import Checkpoint

    from gptoss_parity.sources import Dtype, ExpertChoices
    from gptoss_parity.trace import Trace

__all__ = ["made_source", "opened_checkpoint", "recorded"]


def made_source(source: str, settings: SourceSettings) -> "tuple[LoadingSource, Dtype]":
    """The source with its options, and what it computes in.

    Raises:
        BadParameter: it does not compute in what `--dtype` says.
        MissingDependencyError: its extra is not installed.
    """
    made = make_source(source, **settings.keywords(source))
    assert isinstance(made, LoadingSource), "no file is a source of a command"
    if settings.dtype not in made.dtypes:
        supported = ", ".join(made.dtypes)
        raise click.BadParameter(f"the source {source!r} computes in {supported} only", param_hint="'--dtype'")
    return made, settings.dtype_of(SourceChoice(name=source, dtype=None, is_asked_for=True))


def opened_checkpoint(
    checkpoint: Path | str, config: Path | None, *, source: str, settings: SourceSettings, max_layers: int | None
) -> "Checkpoint":
    """The source's own checkpoint, or the common one with its config; its first layers, if only they are wanted."""
    from gptoss_weights import open_checkpoint, trimmed

    place = settings.checkpoint_of(source, checkpoint)
    opened = open_checkpoint(place, config=config if place == checkpoint else None)
    if max_layers is not None and max_layers < opened.config.num_hidden_layers:
        opened = trimmed(opened, layers=max_layers)
    return opened


def recorded(
    made: LoadingSource,
    checkpoint: "Checkpoint",
    tokens: Sequence[int],
    *,
    dtype: "Dtype",
    block_debug: bool,
    choices: "ExpertChoices | None" = None,
) -> "Trace":
    """The trace of one forward pass.

    Raises:
        UsageError: an option does not go with this source or checkpoint.
    """
    try:
        return made.record(checkpoint, tokens, dtype=dtype, block_debug=block_debug, choices=choices)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
