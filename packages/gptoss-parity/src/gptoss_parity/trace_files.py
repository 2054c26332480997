"""Traces from files of any kind that holds some: our own, golden files, and MaxText's golden JSONL."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gptoss_weights import CheckpointError

from gptoss_parity.golden_jsonl import read_golden_jsonl
from gptoss_parity.trace import Trace, load_trace

__all__ = ["load_traces"]

JSONL_SUFFIX = ".jsonl"


def load_traces(reference: Path, candidate: Path) -> list[tuple[Trace, Trace]]:
    """Pairs of traces of the same prompts, in the order of the reference.

    Raises:
        CheckpointError: a file is none that holds traces, or the two hold different prompts.
    """
    expected, found = _traces(reference), _traces(candidate)
    if len(expected) == len(found) == 1:
        return [(expected[0], found[0])]  # comparing says exactly where two prompts differ
    pairs = []
    for trace in expected:
        same = [other for other in found if np.array_equal(other.tokens, trace.tokens)]
        if same:
            pairs.append((trace, same[0]))
    if not pairs:
        raise CheckpointError(
            "the two files have no prompt in common",
            where=candidate,
            expected=f"tokens of one of the {len(expected)} prompts in {reference}",
            found=f"{len(found)} other prompts",
        )
    return pairs


def _traces(path: Path) -> Sequence[Trace]:
    if path.suffix == JSONL_SUFFIX:
        traces = read_golden_jsonl(path)
        return [dataclasses.replace(trace, where=f"{path}:{line}") for line, trace in enumerate(traces, start=1)]
    return [load_trace(path)]
