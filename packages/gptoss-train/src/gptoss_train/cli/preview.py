"""`gptoss-train preview`: what a config would train on, sample by sample, as one HTML page."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gptoss_weights.text import Tokenizer

    from gptoss_train.data import DataConfig

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
    help="Records that the statistics cover; all, if there are fewer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the statistics as a JSON document.")
def preview_command(
    config: Path, overrides: tuple[str, ...], output: Path, samples: int, records: int, as_json: bool
) -> None:
    r"""Show samples as the model will see them, before any training.

    The page colours each token by channel and by whether it is learnt, and counts lengths, the share that is
    masked, and how well rows are filled. No model is loaded, only the tokenizer.

    \b
    Examples:
      gptoss-train preview sft.yaml
      gptoss-train preview sft.yaml data.packing=none --output /tmp/preview.html
    """
    from gptoss_train.config import load_config
    from gptoss_train.data import open_dataset
    from gptoss_train.preview import write_preview

    loaded = load_config(config, overrides)
    vocabulary_size, tokenizer = _vocabulary(loaded.model, loaded.tokenizer, loaded.data)
    dataset = open_dataset(
        loaded.data,
        vocabulary_size=vocabulary_size,
        tokenizer=tokenizer,
        batch_size=loaded.batch_size,
        sequence_length=loaded.sequence_length,
        seed=loaded.seed,
    )
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
        f"{statistics.cut} cut, {statistics.dropped} dropped, {statistics.without_loss} with nothing to learn"
    )
    click.echo(f"wrote {output}")


def _vocabulary(model: str, tokenizer: str | None, data: "DataConfig") -> tuple[int, "Tokenizer | None"]:
    """How many ids the model knows, and its tokenizer where there is text: by path, or the checkpoint's."""
    from gptoss_weights import GPT_OSS_20B, GPT_OSS_120B, Checkpoint, open_checkpoint
    from gptoss_weights.text import load_tokenizer

    shipped: Checkpoint | Path
    published = {"gpt-oss-20b": GPT_OSS_20B, "gpt-oss-120b": GPT_OSS_120B}
    if model in published and not Path(model).exists():
        size, shipped = published[model].vocab_size, Path(model)
    else:
        checkpoint = open_checkpoint(model)
        size, shipped = checkpoint.config.vocab_size, checkpoint
    if data.source == "synthetic" and tokenizer is None:
        return size, None
    return size, load_tokenizer(shipped if tokenizer is None else Path(tokenizer))
