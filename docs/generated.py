"""Parts of the pages that are made from the code, so that neither can say what the other does not.

An mkdocs hook: a line `<!-- generated: NAME ARGUMENT -->` becomes what the function of that name returns.
"""

import importlib
import re
from collections.abc import Iterator
from typing import Any

import click
from gptoss_model.sharding.recipes import ACCELERATORS, GIB, RECIPES
from gptoss_parity.tolerances import BFLOAT16, FLOAT32
from gptoss_weights.cli_errors import ExitCode

HELP_COLUMNS = 96
EXIT_CODE_MEANINGS = {
    ExitCode.OK: "all well",
    ExitCode.INTERNAL_ERROR: "an internal error: please report it",
    ExitCode.USAGE: "the command was called wrongly",
    ExitCode.BAD_INPUT: "bad or corrupt input",
    ExitCode.PARITY_FAILED: "parity failed",
    ExitCode.MISSING_DEPENDENCY: "an optional package or a device is missing",
    ExitCode.NOT_ENOUGH_SPACE: "not enough memory or disk",
    ExitCode.NETWORK: "network trouble, or offline",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.TERMINATED: "terminated",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace every marker of a page."""
    return re.sub(r"^<!-- generated: (\S+)(?: (\S+))? -->$", fill, markdown, flags=re.MULTILINE)


def fill(marker: re.Match[str]) -> str:
    """What one marker stands for; a name that there is not is an error."""
    name, *arguments = (word for word in marker.groups() if word)
    return GENERATED[name](*arguments)


def commands(package: str) -> str:
    """The help of each command of a package, and of each command of a group, as the terminal shows it."""
    group = importlib.import_module(f"{package.replace('-', '_')}.cli").main
    return "\n\n".join(helps(group, click.Context(group, info_name=package)))


def helps(command: click.Command, context: click.Context) -> Iterator[str]:
    """A command's help, then those of its own commands, each under its name."""
    yield shown_help(command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            within = click.Context(inner, parent=context, info_name=name)
            yield f"### `{within.command_path}`"
            yield from helps(inner, within)


def shown_help(command: click.Command, context: click.Context) -> str:
    """One command's help in a block of its own."""
    context.terminal_width = HELP_COLUMNS
    return f"```text\n{command.get_help(context)}\n```"


def tolerances() -> str:
    """Each limit of each dtype, with its reason."""
    rows = ["| Limit | Dtype | Value | Why |", "|---|---|---|---|"]
    for name in FLOAT32.limits():
        for dtype in (FLOAT32, BFLOAT16):
            limit = dtype.limits()[name]
            depth = limit.grows_beyond
            growth = "" if depth is None else f", times √(layers / {depth:g}) beyond {depth:g} layers"
            rows.append(f"| `{name}` | {dtype.dtype} | {limit.value:g}{growth} | {limit.reason} |")
    return "\n".join(rows)


def exit_codes() -> str:
    """Each exit code with its meaning; a code without one is an error."""
    return "\n".join(
        ["| Code | Meaning |", "|---|---|", *(f"| {code:d} | {EXIT_CODE_MEANINGS[code]} |" for code in ExitCode)]
    )


def recipes() -> str:
    """Each recipe for a mesh, with the memory that its devices need."""
    rows = [
        "| Model | Machine | `--mesh` | Experts | Batch × length | Parameters | KV cache | Gathered | Total | of |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for recipe in RECIPES:
        memory = recipe.memory()
        parts = (memory.experts + memory.other_parameters, memory.kv_cache, memory.gathered, memory.total)
        parts += (ACCELERATORS[recipe.accelerator].memory_bytes,)
        words = (recipe.model, recipe.machine, f"`{recipe.rules}`", recipe.experts, f"{recipe.batch} × {recipe.length}")
        rows.append("| " + " | ".join([*words, *(f"{part / GIB:.1f}" for part in parts)]) + " |")
    return "\n".join(rows)


GENERATED = {"commands": commands, "exit-codes": exit_codes, "recipes": recipes, "tolerances": tolerances}
