"""Golden: a trace made small enough for git, with all that says where it comes from.

Kept are the tokens; every layer's router logits and chosen experts, without which a flip could not be told from a
fault; and of every other probe the rows of some positions (`canaries` first of all) at some
columns, evenly spread. Of the logits, at those positions, the likeliest tokens by id and all others as
one, their log-sum-exp: the distribution is whole, only coarser. A bfloat16 run is kept in bfloat16,
which is exact; a float32 run in float32, since float16 would be coarser than what it must show.
"""

import dataclasses
import json
from collections.abc import Mapping, Set
from pathlib import Path

import ml_dtypes
import numpy as np
from gptoss_weights import BLOCK_DEBUG_PROBES, CheckpointError, probe_specs

from gptoss_parity.canaries import canary_positions
from gptoss_parity.expert_order import in_expert_order
from gptoss_parity.probe_names import ProbeName, parse_probe_name
from gptoss_parity.tensor_files import read_tensors, write_tensors
from gptoss_parity.trace import TOKENS, Trace, TraceMetadata

__all__ = ["GOLDEN_FORMAT", "Golden", "is_golden", "load_golden", "make_golden", "sample_logits", "save_golden"]

GOLDEN_FORMAT = "gptoss-golden/1"
MOST_ROWS = 16
MOST_COLUMNS = 64
MOST_TOKENS = 32  # likeliest next tokens of a row
_ROUTING = ("router_logits", "router_indices")
_LOGITS = "logits"
_SAMPLED = "sampled."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Golden:
    """What is kept of a trace.

    Attributes:
        routing: The trace's tokens, metadata, router logits and chosen experts.
        rows: Which positions, int64 [R].
        token_ids: The likeliest next tokens of those positions, best first, int64 [R, n].
        sampled: Probe → float32 [R, columns]; of `logits` the columns are `token_ids`, and the
            log-sum-exp of all others behind them if there are others.
        columns: How many columns of a probe are kept at most.
        where: Where it was read from.
    """

    routing: Trace
    rows: np.ndarray
    token_ids: np.ndarray
    sampled: Mapping[str, np.ndarray]
    columns: int
    where: str = "golden"

    @property
    def metadata(self) -> TraceMetadata:
        """Where the numbers come from."""
        return self.routing.metadata

    def sample(self, name: str, array: np.ndarray) -> np.ndarray:
        """Of another trace's probe what this golden keeps of it, float32 [R, columns]."""
        if name == _LOGITS:
            return sample_logits(array[self.rows], self.token_ids)
        rows = array[self.rows].reshape(len(self.rows), -1)
        kept: np.ndarray = rows[:, _spread(rows.shape[1], self.columns)]
        return kept


def make_golden(
    trace: Trace, *, rows: int = MOST_ROWS, columns: int = MOST_COLUMNS, token_ids: int = MOST_TOKENS
) -> Golden:
    """Makes a trace small.

    Args:
        trace: A whole trace.
        rows: How many positions to keep at most; the canaries are kept in any case.
        columns: How many columns of each probe.
        token_ids: How many of the likeliest next tokens.

    Raises:
        CheckpointError: the trace has no logits.
    """
    if _LOGITS not in trace:
        raise CheckpointError("the trace has no logits", where=trace.where)
    config = trace.metadata.config
    tokens = len(trace.tokens)
    canaries = [p for _, p in canary_positions(tokens, config.sliding_window if config else None) if p < tokens]
    kept = np.unique([*canaries, *_spread(tokens, rows)[: max(0, rows - len(canaries))]])
    chosen = np.argsort(-trace[_LOGITS][kept], axis=-1, kind="stable")[:, :token_ids]
    routing = {name: array for name, array in trace.items() if _kind(name) in _ROUTING}
    golden = Golden(
        routing=Trace(trace.tokens, routing, trace.metadata, where=trace.where),
        rows=kept,
        token_ids=chosen,
        sampled={},
        columns=columns,
    )
    left = [name for name in trace if _kind(name) not in _ROUTING]
    sampled = {name: golden.sample(name, in_expert_order(_parsed(name), trace)) for name in left}
    return dataclasses.replace(golden, sampled=sampled)


def save_golden(golden: Golden, path: Path) -> None:
    """Writes a golden; equal goldens are equal files."""
    is_half = golden.metadata.dtype == "bfloat16"
    stored = np.dtype(ml_dtypes.bfloat16 if is_half else np.float32)
    tensors: dict[str, np.ndarray] = {
        "tokens": golden.routing.tokens.astype(np.int32),
        "rows": golden.rows.astype(np.int32),
        "token_ids": golden.token_ids.astype(np.int32),
    }
    for name, array in golden.routing.items():
        tensors[name] = array.astype(np.int16) if _kind(name) == "router_indices" else array.astype(stored)
    for name, array in golden.sampled.items():
        # The log-sum-exp among the logits is computed, not a number of the run, and stays float32.
        tensors[f"{_SAMPLED}{name}"] = array.astype(np.float32 if name == _LOGITS else stored)
    strings = golden.metadata.to_strings() | {"format": GOLDEN_FORMAT, "columns": json.dumps(golden.columns)}
    write_tensors(path, strings, tensors)


def is_golden(path: Path) -> bool:
    """Whether a file is a golden of ours, and not a whole trace or something else.

    Raises:
        CheckpointError: it is not a safetensors file.
    """
    return read_tensors(path)[0].get("format") == GOLDEN_FORMAT


def load_golden(path: Path) -> Golden:
    """Reads what `save_golden` wrote.

    Raises:
        CheckpointError: it is not a golden, or its parts contradict each other.
    """
    strings, tensors = read_tensors(path)
    if strings.get("format") != GOLDEN_FORMAT:
        raise CheckpointError(
            "the file is no golden", where=path, expected=f"format {GOLDEN_FORMAT!r}", found=repr(strings.get("format"))
        )
    missing = [name for name in ("tokens", "rows", "token_ids") if name not in tensors]
    if missing:
        raise CheckpointError("the golden lacks a tensor", where=f"{path}: {missing[0]}")
    tokens, rows, token_ids = (tensors.pop(name).astype(np.int64) for name in ("tokens", "rows", "token_ids"))
    sampled = {n.removeprefix(_SAMPLED): a.astype(np.float32) for n, a in tensors.items() if n.startswith(_SAMPLED)}
    routing = {name: array for name, array in tensors.items() if not name.startswith(_SAMPLED)}
    metadata = TraceMetadata.from_strings({k: v for k, v in strings.items() if k != "format"}, where=str(path))
    try:
        columns = int(strings["columns"])
    except (KeyError, ValueError):
        raise CheckpointError("the golden does not say how many columns it keeps", where=path) from None
    if rows.ndim != 1 or not rows.size or rows.min() < 0 or rows.max() >= len(tokens):
        raise CheckpointError("the golden's rows are no positions of its prompt", where=f"{path}: rows")
    for name, array in sampled.items():
        if parse_probe_name(name) is None or array.ndim != len("RC") or len(array) != len(rows):
            raise CheckpointError("the golden's rows and this probe do not fit", where=f"{path}: {name}")
    _require_every_probe({*routing, *sampled}, metadata, str(path))
    return Golden(
        routing=Trace(tokens, routing, metadata, where=str(path)),
        rows=rows,
        token_ids=token_ids,
        sampled=sampled,
        columns=columns,
        where=str(path),
    )


def _require_every_probe(names: Set[str], metadata: TraceMetadata, where: str) -> None:
    """A golden that has lost a probe would find fewer faults and say nothing of it."""
    if not any(parse_probe_name(name) is not None for name in names):
        raise CheckpointError("the golden holds no probe", where=where)
    if metadata.config is None or metadata.is_partial:
        return
    has_inner = any(_kind(name) in BLOCK_DEBUG_PROBES for name in names)
    for name in probe_specs(metadata.config, 1, block_debug=has_inner):
        if name != TOKENS and name not in names:
            raise CheckpointError("the golden lacks a probe that its model has", where=f"{where}: {name}")


def sample_logits(logits: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
    """Logits [R, V] at ids [R, n], and behind them the log-sum-exp of all others if there are any."""
    kept = np.take_along_axis(logits, token_ids, axis=-1).astype(np.float32)
    if token_ids.shape[1] == logits.shape[1]:
        return kept
    others = logits.astype(np.float64)
    np.put_along_axis(others, token_ids, -np.inf, axis=-1)
    largest = others.max(axis=-1, keepdims=True)
    rest = largest + np.log(np.exp(others - largest).sum(axis=-1, keepdims=True))
    return np.concatenate([kept, rest.astype(np.float32)], axis=-1)


def _spread(extent: int, most: int) -> np.ndarray:
    """At most so many places of 0 … extent − 1, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, extent - 1, min(extent, most)).round().astype(np.int64))


def _parsed(name: str) -> ProbeName:
    probe = parse_probe_name(name)
    assert probe is not None, f"{name} is a probe of a trace"
    return probe


def _kind(name: str) -> str:
    return name.rpartition(".")[2]
