"""Reports: one page for people, one JSON file for programs, one table for the terminal."""

import contextlib
import datetime
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gptoss_weights.durable_files import write_durably

from gptoss_parity.report.content import Continuation, NotRun, Report
from gptoss_parity.report.document import SCHEMA, report_document
from gptoss_parity.report.markdown import report_markdown
from gptoss_parity.report.terminal import comparison_table

__all__ = [
    "SCHEMA",
    "Continuation",
    "NotRun",
    "Report",
    "WrittenReport",
    "comparison_table",
    "report_document",
    "report_json",
    "report_markdown",
    "write_report",
]


def report_json(report: Report) -> str:
    """The JSON report as text."""
    return json.dumps(report_document(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


class WrittenReport(NamedTuple):
    """Where a report was written."""

    html: Path
    document: Path
    markdown: Path


def write_report(report: Report, folder: Path) -> WrittenReport:
    """Writes `report.html`, `report.json` and `<timestamp>_summary.md` into a folder.

    The first two replace those of an earlier run; summaries stay beside each other, for each run's is
    named after the second, in UTC, at which it was written.
    """
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    written = WrittenReport(folder / "report.html", folder / "report.json", folder / f"{stamp}_summary.md")
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(written.document, report_json(report).encode())
    write_durably(written.markdown, report_markdown(report).encode())
    with _quiet_matplotlib():
        from gptoss_parity.report.page import report_page  # matplotlib takes a second, and JSON needs none of it

        page = report_page(report)
    write_durably(written.html, page.encode())
    return written


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
