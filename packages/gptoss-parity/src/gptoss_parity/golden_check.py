"""A trace against a golden: what the golden keeps is compared, with the limits that whole traces are held to."""

import dataclasses

import numpy as np
from gptoss_weights import CheckpointError

from gptoss_parity.compare import Comparison, judge
from gptoss_parity.expert_order import in_expert_order, is_by_expert
from gptoss_parity.golden import Golden
from gptoss_parity.logits_check import LogitsCheck
from gptoss_parity.measures import ProbeMeasures, measure_probe
from gptoss_parity.probe_names import parse_probe_name
from gptoss_parity.routing import compare_routing
from gptoss_parity.tolerances import Tolerances, tolerances_between
from gptoss_parity.trace import Trace

__all__ = ["check_golden"]


def check_golden(
    golden: Golden,
    candidate: Trace,
    tolerances: Tolerances | None = None,
    *,
    check: LogitsCheck | None = None,
    judge_all: bool = False,
) -> Comparison:
    """Compares a whole trace with a golden.

    Measures are over the golden's rows and columns; tokens in them count from 0 in those rows, and the
    KL is that of the coarser distribution that the golden keeps.

    Args:
        golden: What is right.
        candidate: What is judged.
        tolerances: The limits; by default those of the coarser dtype of the two.
        check: Limits for the logits that decide in place of all others.
        judge_all: Whether all others decide too, beside `check`.

    Raises:
        CheckpointError: the trace has other tokens or another geometry.
    """
    reference = golden.routing
    if not np.array_equal(reference.tokens, candidate.tokens):
        raise CheckpointError("the golden was recorded from other tokens", where=golden.where)
    limits = tolerances or tolerances_between(reference.metadata, candidate.metadata)
    routing = compare_routing(reference, candidate, limits)
    measured: list[ProbeMeasures] = []
    sampled: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    layers = max(reference.layers, default=-1) + 1
    everything = [*((name, None) for name in reference), *golden.sampled.items()]
    for name, kept in everything:
        probe = parse_probe_name(name)
        if probe is None or probe.is_integer or name not in candidate:
            continue
        kind = "output" if is_by_expert(probe) else probe.kind
        reach = routing.reach_at(probe.layer, kind, len(candidate.tokens))
        expected, found = reference.get(name), candidate[name]
        if kept is not None:
            expected, found, reach = kept, golden.sample(name, in_expert_order(probe, candidate)), reach[golden.rows]
        assert expected is not None, "a golden holds a probe whole or in samples"
        if expected.shape != found.shape:
            raise CheckpointError(
                "the golden is of a model of another geometry",
                where=f"{golden.where}: {name}",
                expected=f"shape {found.shape} as in {candidate.where}",
                found=expected.shape,
            )
        depth = probe.layer + 1 if probe.layer is not None else 0 if name == "embedding" else layers
        measured.append(measure_probe(probe, expected, found, reach, limits, depth=depth))
        sampled[name] = (expected, found)
    ordered = sorted(measured, key=lambda measures: _order(measures.name))
    lacking = [name for name in golden.sampled if name not in candidate]
    if lacking and not candidate.metadata.is_partial:
        raise CheckpointError("the trace lacks a probe that the golden has", where=f"{candidate.where}: {lacking[0]}")
    comparison = judge(
        reference, candidate, limits, routing, ordered, logits=sampled.get("logits"), check=check, judge_all=judge_all
    )
    if not golden.metadata.is_partial:
        return comparison
    only = f"the golden ({golden.metadata.source}) holds {', '.join(sampled)} only; nothing else could be compared"
    return dataclasses.replace(comparison, warnings=(*comparison.warnings, only))


def _order(name: str) -> tuple[int, int, int]:
    probe = parse_probe_name(name)
    assert probe is not None, f"{name} is a probe"
    return probe.order
