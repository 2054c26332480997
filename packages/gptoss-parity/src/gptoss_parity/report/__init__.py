"""Reports: one page for people, one JSON file for programs, one table for the terminal."""

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

from gptoss_weights.durable_files import write_durably

from gptoss_parity.report.content import Continuation, Report
from gptoss_parity.report.document import SCHEMA, report_document
from gptoss_parity.report.terminal import comparison_table

__all__ = ["SCHEMA", "Continuation", "Report", "comparison_table", "report_document", "report_json", "write_report"]


def report_json(report: Report) -> str:
    """The JSON report as text."""
    return json.dumps(report_document(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Writes `report.html` and `report.json` into a folder, replacing only these two.

    Returns:
        Both paths.
    """
    html, document = folder / "report.html", folder / "report.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(document, report_json(report).encode())
    with _quiet_matplotlib():
        from gptoss_parity.report.page import report_page  # matplotlib takes a second, and JSON needs none of it

        page = report_page(report)
    write_durably(html, page.encode())
    return html, document


@contextlib.contextmanager
def _quiet_matplotlib() -> Iterator[None]:
    """Keeps to itself that matplotlib builds its font cache on first use, or finds no place for one."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
