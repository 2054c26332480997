"""Metrics: one JSON line a step, which a run that goes on continues where its checkpoint stands."""

import json
import math
import resource
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from gptoss_weights import GptOssWarning
from gptoss_weights.durable_files import write_durably

from gptoss_train.step import StepReport

__all__ = ["MetricsFile", "json_number", "memory_bytes", "read_metrics", "step_metrics"]

SIGNIFICANT = 7  # digits of what is no loss: an f32 has no more


def step_metrics(
    report: StepReport, *, step: int, learning_rate: float, seconds: float, skipped: int
) -> dict[str, Any]:
    """A step's line.

    Args:
        report: Of the step, on the host or not.
        step: Its number, from 1.
        learning_rate: That it had.
        seconds: From its start until all its work was done.
        skipped: Steps of the run so far that were not applied.
    """
    tokens = int(report.tokens)
    return {
        "step": step,
        "loss": json_number(report.loss),
        "total_loss": json_number(report.total_loss),
        "load_balance_loss": json_number(report.load_balance),
        "router_z_loss": json_number(report.z),
        "grad_norm": json_number(report.grad_norm),
        "grad_norms": {group: json_number(norm) for group, norm in sorted(report.grad_norms.items())},
        "learning_rate": _rounded(learning_rate),
        "tokens": tokens,
        "target_tokens": int(report.targets),
        "seconds": _rounded(seconds),
        "tokens_per_second": _rounded(tokens / seconds),
        "memory_bytes": memory_bytes(),
        "skipped_steps": skipped,
        "expert_load": np.round(np.asarray(report.expert_load, np.float64), 5).tolist(),
    }


def memory_bytes() -> int:
    """The most that a device has used, or on a CPU the process, so far."""
    used = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in jax.local_devices()]
    if any(used):
        return int(max(used))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class MetricsFile:
    """`metrics.jsonl` of a run: a line a step, flushed as it is written.

    Args:
        path: The file.
        after_step: The step that the run goes on after; lines of later ones, and what is no line, are removed. Of the
            latter a warning says how many, but for a last one that was cut off.
    """

    def __init__(self, path: Path, *, after_step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines, unreadable = _parsed(path)
        kept = [line for line in lines if line["step"] <= after_step]
        if unreadable:
            counted = "1 line" if unreadable == 1 else f"{unreadable} lines"
            warnings.warn(f"{path}: {counted} cannot be read, and left out", GptOssWarning, stacklevel=2)
        write_durably(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._stream = path.open("a", encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        """Adds a line."""
        self._stream.write(json.dumps(line, allow_nan=False) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Lets go of the file."""
        self._stream.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, without those that cannot be read; nothing where there is none."""
    return _parsed(path)[0]


def _parsed(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines of a file, and how many more were none; a last one that was cut off does not count."""
    if not path.exists():
        return [], 0
    *texts, _unfinished = path.read_bytes().split(b"\n")
    found = [line for text in texts if (line := _line_of(text)) is not None]
    return found, len(texts) - len(found)


def _line_of(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or not UTF-8
        return None
    return line if isinstance(line, dict) and isinstance(line.get("step"), int) else None


def json_number(value: Any) -> float | None:
    """As JSON has it; null where it is none."""
    number = float(value)
    return number if math.isfinite(number) else None


def _rounded(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT}g}")
