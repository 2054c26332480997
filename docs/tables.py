"""Tables in the pages that are made from the code, so that neither can say what the other does not.

An mkdocs hook: a line `<!-- table: NAME -->` becomes the table of that name.
"""

import re
from typing import Any

from gptoss_parity.tolerances import BFLOAT16, FLOAT32
from gptoss_weights.cli_errors import ExitCode

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
    return re.sub(r"^<!-- table: (\S+) -->$", lambda marker: TABLES[marker[1]](), markdown, flags=re.MULTILINE)


def tolerances() -> str:
    """Each limit of each dtype, with its reason."""
    rows = ["| Limit | Dtype | Value | Why |", "|---|---|---|---|"]
    for name in FLOAT32.limits():
        for dtype in (FLOAT32, BFLOAT16):
            limit = dtype.limits()[name]
            rows.append(f"| `{name}` | {dtype.dtype} | {limit.value:g} | {limit.reason} |")
    return "\n".join(rows)


def exit_codes() -> str:
    """Each exit code with its meaning; a code without one is an error."""
    return "\n".join(
        ["| Code | Meaning |", "|---|---|", *(f"| {code:d} | {EXIT_CODE_MEANINGS[code]} |" for code in ExitCode)]
    )


TABLES = {"exit-codes": exit_codes, "tolerances": tolerances}
