"""The report as JSON: everything that was measured, for programs; the package's README holds the schema.

A number that does not exist or is not finite is null, for JSON knows neither.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gptoss_parity.canaries import Canary
from gptoss_parity.compare import Comparison
from gptoss_parity.failures import Failure
from gptoss_parity.logits_measures import LogitsMeasures
from gptoss_parity.measures import ProbeMeasures
from gptoss_parity.noise import Noise
from gptoss_parity.replay import DivergenceSplit
from gptoss_parity.report.content import Continuation, Report
from gptoss_parity.report.environment import environment
from gptoss_parity.routing import Flip, FlipKind, LayerRouting, Reach
from gptoss_parity.tolerances import Tolerances
from gptoss_parity.trace import Trace

__all__ = ["SCHEMA", "report_document"]

SCHEMA = "gptoss-parity-report/2"


def report_document(report: Report) -> dict[str, Any]:
    """A report as JSON values."""
    return {
        "schema": SCHEMA,
        "title": report.title,
        "passed": report.passed,
        "verdict": report.verdict,
        "command": report.command,
        "seed": report.seed,
        "prompts": list(report.prompts),
        "environment": environment(),
        "not_run": [dataclasses.asdict(problem) for problem in report.not_run],
        "comparisons": [_comparison(comparison) for comparison in report.comparisons],
        "continuation": None if report.continuation is None else _continuation(report.continuation),
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "title": comparison.title,
        "prompt": comparison.prompt,
        "passed": comparison.passed,
        "verdict": comparison.verdict,
        "reference": _provenance(comparison.reference),
        "candidate": _provenance(comparison.candidate),
        "tokens": comparison.tokens.tolist(),
        "tolerances": _tolerances(comparison.tolerances),
        "check": None if comparison.check is None else dataclasses.asdict(comparison.check),
        "failures": [_failure(failure) for failure in comparison.failures],
        "unjudged": [_failure(failure) for failure in comparison.unjudged],
        "warnings": list(comparison.warnings),
        "probes": [_probe(probe) for probe in comparison.probes],
        "routing": [_layer(layer) for layer in comparison.routing.layers],
        "canaries": [_canary(canary) for canary in comparison.canaries],
        "noise": [_noise(noise) for noise in comparison.noise],
        "replay": None if comparison.split is None else _split(comparison.split),
    }


def _provenance(trace: Trace) -> dict[str, Any]:
    metadata = trace.metadata
    return {
        "source": metadata.source,
        "dtype": metadata.dtype,
        "checkpoint_digest": metadata.checkpoint_digest,
        "config": None if metadata.config is None else metadata.config.to_openai(),
        "versions": dict(metadata.versions),
        "options": dict(metadata.options),
        "command": metadata.command,
    }


def _tolerances(tolerances: Tolerances) -> dict[str, Any]:
    limits = {
        name: {"value": limit.value, "grows_beyond_layers": limit.grows_beyond, "reason": limit.reason}
        for name, limit in tolerances.limits().items()
    }
    return {"dtype": tolerances.dtype, "limits": limits}


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "probe": failure.probe,
        "measure": failure.measure,
        "sentence": failure.sentence,
        "value": _finite(failure.value),
        "limit": _finite(failure.limit),
    }


def _probe(probe: ProbeMeasures) -> dict[str, Any]:
    worst = probe.worst_clean
    return {
        "name": probe.name,
        "shape": list(probe.shape),
        "passed": probe.passed,
        "max_abs": _finite(probe.max_abs),
        "max_abs_index": list(probe.max_abs_index),
        "relative_l2": _finite(probe.relative_l2),
        "clean_relative_l2": _finite(probe.clean_relative_l2),
        "limit": probe.limit,
        "reached_relative_l2": _finite(probe.reached_relative_l2),
        "flipped_relative_l2": _finite(probe.flipped_relative_l2),
        "worst_clean_token": None
        if worst is None
        else {"token": worst.token, "relative_l2": _finite(worst.relative_l2)},
        "tokens": {kind.name.lower(): probe.tokens_by_reach[kind] for kind in Reach},
        "max_relative": _finite(probe.max_relative),
        "max_relative_index": list(probe.max_relative_index),
        "cosine": _finite(probe.cosine),
        "argmax_agreement": probe.argmax_agreement,
        "top_k_overlap": probe.top_k_overlap,
        "logits": None if probe.logits is None else _logits(probe.logits),
    }


def _logits(logits: LogitsMeasures) -> dict[str, Any]:
    kl = {"mean": logits.kl_mean, "p95": logits.kl_p95, "max": logits.kl_max}
    return {
        "kl": {name: _finite(value) for name, value in kl.items()} | {"max_token": logits.kl_max_token},
        "kl_by_token": [_finite(float(value)) for value in logits.kl],
        "top_k": logits.top_k,
        "top_k_overlap": logits.top_k_overlap,
        "jaccard": logits.jaccard,
        "rank_agreement": logits.rank_agreement,
        "argmax_agreement": logits.argmax_agreement,
        "argmax_agreement_outside_ties": logits.argmax_agreement_outside_ties,
        "near_ties": logits.near_ties,
        "differing_tokens": list(logits.differing),
    }


def _canary(canary: Canary) -> dict[str, Any]:
    document = dataclasses.asdict(canary)
    document["layers_alike"] = None if canary.layers_alike is None else list(canary.layers_alike)
    for name in ("relative_l2", "kl", "worst_relative_l2"):
        document[name] = _finite(document[name])
    return document


def _noise(noise: Noise) -> dict[str, Any]:
    document = dataclasses.asdict(noise)
    for name in ("max_abs", "relative_l2", "kl_max"):
        document[name] = _finite(document[name])
    return document


def _split(split: DivergenceSplit) -> dict[str, Any]:
    return {
        "forced": split.forced,
        "kl_total": _finite(float(split.total.mean())),
        "kl_other_experts": _finite(split.chosen_kl),
        "kl_computed_differently": _finite(split.computed_kl),
        "removed_share": _finite(split.removed_share),
        "removed_share_where_caused": _finite(split.removed_share_where_caused),
        "tokens_where_caused": np.flatnonzero(split.is_caused).tolist(),
        "relative_l2_total": _finite(split.total_relative_l2),
        "relative_l2_computed_differently": _finite(split.computed_relative_l2),
    }


def _layer(layer: LayerRouting) -> dict[str, Any]:
    return {
        "layer": layer.layer,
        "agreement": float(np.mean(layer.same_experts)),
        "order_agreement": float(np.mean(layer.same_order)),
        "largest_weight_difference": _finite(layer.weight_difference),
        "smallest_margin": _finite(float(layer.margin.min())),
        "flips_by_kind": {kind.value: sum(flip.kind is kind for flip in layer.flips) for kind in FlipKind},
        "flips": [_flip(flip) for flip in layer.flips],
    }


def _flip(flip: Flip) -> dict[str, Any]:
    return {
        "token": flip.token,
        "reference": list(flip.reference),
        "candidate": list(flip.candidate),
        "is_order_only": flip.is_order_only,
        "gap": _finite(flip.gap),
        "limit": flip.limit,
        "kind": flip.kind.value,
    }


def _continuation(continuation: Continuation) -> dict[str, Any]:
    tokens: Mapping[str, Sequence[int]] = continuation.tokens
    return {
        "prompt": continuation.prompt,
        "agrees": continuation.agrees,
        "tokens": {source: list(ids) for source, ids in tokens.items()},
        "texts": dict(continuation.texts),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
