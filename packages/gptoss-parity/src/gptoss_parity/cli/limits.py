"""The options that say how far apart two traces may be, the same for every command that compares."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from gptoss_parity.logits_check import LogitsCheck

__all__ = ["limit_options", "logits_check"]

_LIMIT = click.FloatRange(min=0)
_OPTIONS = (
    click.option("--hidden", type=_LIMIT, help="Limit: relative L2 of each hidden state and the logits."),
    click.option("--token", type=_LIMIT, help="Limit: the same of the worst single token."),
    click.option("--router", type=_LIMIT, help="Limit: relative L2 of router logits and weights."),
    click.option("--inner", type=_LIMIT, help="Limit: relative L2 of block-debug probes."),
    click.option("--inner-token", type=_LIMIT, help="Limit: the same of the worst single token."),
    click.option("--reached", type=_LIMIT, help="Limit: relative L2 of the tokens that see a flipped one."),
    click.option("--margin", type=_LIMIT, help="Largest gap between router logits that counts as a near-tie."),
    click.option("--margin-per-rms", type=_LIMIT, help="… plus this many times the RMS of the token's router logits."),
    click.option("--atol", type=_LIMIT, help="Judge the logits alone: |difference| ≤ atol + rtol · |reference|."),
    click.option("--rtol", type=_LIMIT, help="See --atol."),
    click.option(
        "--max-kl-div", "--max_kl_div", type=_LIMIT, help="Judge the logits alone: largest KL(reference ‖ candidate)."
    ),
    click.option(
        "--judge-all", is_flag=True, help="With --atol, --rtol or --max-kl-div: let all other limits decide too."
    ),
)


def limit_options[Function: Callable[..., Any]](command: Function) -> Function:
    """Adds the options; the command gets each under its name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def logits_check(limits: dict[str, Any]) -> tuple[LogitsCheck | None, bool, Mapping[str, float | None]]:
    """Takes the options apart: the check of logits if there is one, `judge_all`, and limits of `Tolerances`.

    Raises:
        click.UsageError: `--judge-all` has nothing to add to, or a limit is NaN.
    """
    given = {name: limits.pop(name) for name in ("atol", "rtol", "max_kl_div")}
    judge_all = bool(limits.pop("judge_all"))
    for name, value in limits.items():
        if value is not None and value != value:
            raise click.UsageError(f"--{name.replace('_', '-')}: a limit is at least 0, not nan")
    if all(value is None for value in given.values()):
        if judge_all:
            raise click.UsageError(
                "--judge-all goes with --atol, --rtol or --max-kl-div; without them all limits decide."
            )
        return None, False, limits
    try:
        return LogitsCheck(**given), judge_all, limits
    except ValueError as error:  # NaN, which click's range lets through
        raise click.UsageError(str(error)) from None
