"""`gptoss-train evaluate`: the loss of a checkpoint, or of a run, on data."""

import json
import math
from pathlib import Path

import click
from gptoss_weights.cli_parameters import CHECKPOINT_PATH

__all__ = ["evaluate_command"]


@click.command("evaluate")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--run",
    "run_place",
    type=CHECKPOINT_PATH,
    help="A run whose newest checkpoint is evaluated; by default the checkpoint that `model` names.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")
def evaluate_command(config: Path, overrides: tuple[str, ...], run_place: Path | str | None, as_json: bool) -> None:
    """Print the mean loss over `evaluation.data`, or over `data` where there is none, each record once.

    Nothing is learnt. The model runs as the config says: dtype, strategies, mesh. Samples that are cut or dropped for
    their length, or in which nothing is to be learnt, are counted.

    \b
    Examples:
      gptoss-train evaluate my.yaml data.files=[held-out.txt]
      gptoss-train evaluate my.yaml --run runs/tuned evaluation.batches=50 --json
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_train.config import load_config
    from gptoss_train.runtime import start_jax

    loaded = load_config(config, overrides)
    start_jax()
    import jax

    from gptoss_train.evaluation import Evaluation
    from gptoss_train.metrics import json_number
    from gptoss_train.sample_counts import sample_metrics
    from gptoss_train.setup import open_held_out, set_up

    checkpoint = None
    if run_place is not None:
        from gptoss_train.going_home import open_run

        checkpoint = open_run(str(run_place)).checkpoint()
    run = set_up(loaded, "finetune", base=checkpoint, learns=False)
    data = loaded.data if loaded.evaluation.data is None else loaded.evaluation.data
    evaluation = Evaluation(run, lambda: iter(open_held_out(run, data)))
    loss = evaluation.loss(run.state.parameters, run)
    if jax.process_index() > 0:
        return  # all have found the same, and the first says it
    found = evaluation.statistics
    where = loaded.model if run_place is None else str(run_place)
    if as_json:
        numbers = {"loss": json_number(loss), "perplexity": json_number(math.exp(min(loss, 700.0)))}
        click.echo(json.dumps({"checkpoint": where} | numbers | sample_metrics(found)))
    else:
        click.echo(f"{where}: loss {loss:.6f}, perplexity {math.exp(min(loss, 700.0)):.4g}")
        if found is not None:
            click.echo(found.summary())
