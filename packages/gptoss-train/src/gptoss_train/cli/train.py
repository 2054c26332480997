"""`gptoss-train pretrain`, `finetune`, `sft` and `lora`: one loop, four beginnings."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gptoss_train.config import TrainConfig
    from gptoss_train.setup import Method

__all__ = ["finetune_command", "lora_command", "pretrain_command", "sft_command"]


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What all four take."""
    for option in reversed(
        (
            click.argument("config", type=click.Path(path_type=Path)),
            click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]..."),
            click.option(
                "--print-config",
                is_flag=True,
                help="Print every key of the config with its value, and do nothing else.",
            ),
            click.option(
                "--dry-run", is_flag=True, help="Print what the run needs, from shapes alone, and do nothing else."
            ),
        )
    ):
        command = option(command)
    return command


@click.command("pretrain")
@_run_options
def pretrain_command(config: Path, overrides: tuple[str, ...], print_config: bool, dry_run: bool) -> None:
    """Train new weights, of the geometry that `model` and `geometry` name.

    CONFIG is a YAML file, or the name of a recipe. A run of the same name goes on where it was saved; SIGTERM
    and SIGINT save it.

    \b
    Examples:
      gptoss-train pretrain tiny steps=20 run_name=first
      gptoss-train pretrain my.yaml optimizer.learning_rate=3e-4 --print-config
    """  # noqa: D301 - the backslash is meant for click
    _command("pretrain", config, overrides, print_config=print_config, dry_run=dry_run)


@click.command("finetune")
@_run_options
def finetune_command(config: Path, overrides: tuple[str, ...], print_config: bool, dry_run: bool) -> None:
    """Go on training the weights of a checkpoint, in any format.

    CONFIG is a YAML file, or the name of a recipe. Experts are decoded to be trained; `export` packs them again.

    \b
    Examples:
      gptoss-train finetune tiny model=my-checkpoint run_name=tuned
      gptoss-train finetune my.yaml run.quantization_aware=true
    """  # noqa: D301 - the backslash is meant for click
    _command("finetune", config, overrides, print_config=print_config, dry_run=dry_run)


@click.command("sft")
@_run_options
def sft_command(config: Path, overrides: tuple[str, ...], print_config: bool, dry_run: bool) -> None:
    """Train on conversations, rendered in the Harmony format; the loss is that of the assistant.

    As finetune, but every record must be a conversation. `gptoss-train preview` shows what is learnt.

    \b
    Examples:
      gptoss-train sft sft.yaml model=gpt-oss-20b data.source=jsonl data.files=[chats.jsonl]
      gptoss-train sft sft.yaml data.conversation.turns=last
    """  # noqa: D301 - the backslash is meant for click
    _command("sft", config, overrides, print_config=print_config, dry_run=dry_run)


@click.command("lora")
@_run_options
def lora_command(config: Path, overrides: tuple[str, ...], print_config: bool, dry_run: bool) -> None:
    """Train low-rank updates of attention and experts, which stay packed as MXFP4.

    After the first steps an audit says whether all that should move did, and nothing else; if not, it is an
    error. `gptoss-train merge` makes a checkpoint, or a PEFT adapter, of the result.

    \b
    Examples:
      gptoss-train lora tiny model=my-checkpoint lora.rank=8 run_name=adapted
      gptoss-train lora my.yaml lora.targets=[gate_up_proj,down_proj] lora.router=true
    """  # noqa: D301 - the backslash is meant for click
    _command("lora", config, overrides, print_config=print_config, dry_run=dry_run)


def _command(method: "Method", place: Path, overrides: tuple[str, ...], *, print_config: bool, dry_run: bool) -> None:
    from gptoss_train.runtime import importing

    with importing():
        from gptoss_train.config import load_config

    config = load_config(place, overrides)
    if method == "sft":
        from gptoss_train.sft_data import for_conversations

        config = for_conversations(config)
    if print_config:
        from gptoss_train.reading import config_as_yaml

        click.echo(config_as_yaml(config), nl=False)
        return
    if dry_run:
        from gptoss_train.planning import plan_run

        click.echo(plan_run(config, method).to_text())
        return
    _train(config, method)


def _train(config: "TrainConfig", method: "Method") -> None:
    import signal

    from gptoss_weights.cli_errors import ExitCode

    from gptoss_train.runtime import importing, start_jax

    is_saved = config.checkpoint.mode != "off"
    with importing(without=[] if is_saved else ["orbax.checkpoint"]):
        start_jax()
        import grain  # noqa: F401 - which looks for Orbax, and that takes as long as grain
        import jax

        from gptoss_train.errors import TrainingError
        from gptoss_train.evaluation import Evaluation
        from gptoss_train.loop import train
        from gptoss_train.memory import keep_memory
        from gptoss_train.report import write_report
        from gptoss_train.run_places import check_not_saved, local_folder, located, run_folder
        from gptoss_train.setup import open_data, open_held_out, set_up

    if is_saved:
        located(run_folder(config))  # or refused, before anything is loaded
    else:
        check_not_saved(config)
    run = set_up(config, method)
    batches = iter(open_data(run, config.data))
    held_out = config.evaluation.data
    evaluation = None if held_out is None else Evaluation(run, lambda: iter(open_held_out(run, held_out)))
    is_first = jax.process_index() == 0

    def say(text: str) -> None:
        if is_first:
            click.echo(text, err=True)

    folder = local_folder(config)
    is_reported = is_first and config.log.report
    if jax.default_backend() == "cpu":
        keep_memory()
    try:
        outcome = train(run, batches, evaluation=evaluation, say=say)
    except TrainingError:
        if is_reported:
            write_report(folder, title=config.run_name)  # what led there is to be seen
        raise
    if is_reported:
        write_report(folder, title=config.run_name)
    if is_first:
        steps = int(outcome.state.step)
        losses = (
            f"loss {_shown(outcome.first_loss)} → {_shown(outcome.last_loss)}" if steps > outcome.first_step else ""
        )
        held = "" if outcome.evaluation is None else f", held out {outcome.evaluation:.4f}"
        skipped = int(outcome.state.skipped)
        left_out = f", {skipped} left out" if skipped else ""
        click.echo(f"{folder}: {steps} of {config.steps} steps{left_out}; {losses or 'nothing was left to do'}{held}")
        for data, found in (("", outcome.statistics), ("held out: ", outcome.held_out)):
            if found is not None:
                click.echo(f"{data}{found.summary()}")
    if outcome.signal is not None:
        code = ExitCode.TERMINATED if outcome.signal == signal.SIGTERM else ExitCode.INTERRUPTED
        click.get_current_context().exit(code)


def _shown(loss: float | None) -> str:
    return "no number" if loss is None else f"{loss:.4f}"
