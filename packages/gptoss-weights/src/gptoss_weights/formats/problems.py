"""Everything that is wrong with a checkpoint, in one error."""

from pathlib import Path

from gptoss_weights.errors import CheckpointError

__all__ = ["gathered_problems"]

_SHOWN_PROBLEMS = 5  # of one checkpoint; hundreds would hide the first


def gathered_problems(where: Path, problems: list[str]) -> CheckpointError:
    """One error of all problems; the folder or file is named once, the first few problems in full."""
    if len(problems) == 1:
        return CheckpointError(problems[0], fix=_next_step(problems))
    shown = [problem.removeprefix(f"{where}/").removeprefix(f"{where}: ") for problem in problems[:_SHOWN_PROBLEMS]]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    return CheckpointError(f"{len(problems)} problems: {'; '.join(shown)}", where=where, fix=_next_step(problems))


def _next_step(problems: list[str]) -> str:
    if any(
        phrase in problem
        for phrase in (" has the wrong shape", " is no tensor ", " belongs to no ")
        for problem in problems
    ):
        return "Is this the config of these weights?"
    if any(" is missing, expected " in problem for problem in problems):
        return "Is a shard missing, or is this the config of another model?"
    return "Fetch what is missing or damaged again."
