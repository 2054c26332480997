"""`gptoss-train preview`: what a config would train on, sample by sample, as one HTML page."""

import json
from pathlib import Path

import click

__all__ = ["preview_command"]


@click.command("preview")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("preview.html"),
    show_default=True,
    help="The page to write.",
)
@click.option(
    "--samples", type=click.IntRange(min=0), default=20, show_default=True, help="Samples shown token by token."
)
@click.option(
    "--records",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Records that the statistics cover, up to the end of a packing window; all, if there are fewer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the statistics as a JSON document.")
def preview_command(
    config: Path, overrides: tuple[str, ...], output: Path, samples: int, records: int, as_json: bool
) -> None:
    """Show samples as the model will see them, before any training.

    The page colours each token by channel and by whether it is learnt, and counts lengths, the share that is
    masked, and how well rows are filled. No model is loaded, only the tokenizer. CONFIG is a file, or a recipe
    that comes with the package.

    \b
    Examples:
      gptoss-train preview sft.yaml
      gptoss-train preview sft.yaml data.packing=none --output first-look.html
      gptoss-train preview tiny --json
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_train.config import load_config
    from gptoss_train.data import open_dataset
    from gptoss_train.errors import ConfigError
    from gptoss_train.preview import write_preview
    from gptoss_train.setup import open_base, open_tokenizer

    loaded = load_config(config, overrides)
    # New weights of any geometry would do as well, for none is read: only their vocabulary and tokenizer count.
    base = open_base(loaded, "pretrain")
    tokenizer = open_tokenizer(loaded, base)
    try:
        dataset = open_dataset(
            loaded.data,
            vocabulary_size=base.config.vocab_size,
            tokenizer=tokenizer,
            batch_size=loaded.batch_size,
            sequence_length=loaded.sequence_length,
            seed=loaded.seed,
        )
    except ValueError as error:
        raise ConfigError(str(error), where="data") from None
    content = write_preview(
        dataset, output, tokenizer=tokenizer, title=f"Training data of {config.name}", samples=samples, records=records
    )
    statistics = content.statistics
    if as_json:
        click.echo(json.dumps(statistics.to_json() | {"output": str(output)}, indent=1))
        return
    click.echo(
        f"{statistics.samples} samples of {statistics.records} records, {statistics.tokens} tokens; "
        f"{statistics.trained_share:.1%} learnt, rows filled to {statistics.packing_efficiency:.1%}; "
        f"{statistics.losses()}"
    )
    click.echo(f"wrote {output}")
