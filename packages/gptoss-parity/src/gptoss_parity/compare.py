"""Comparison: one trace against another, a verdict, and the first place where it fails.

The reference says what is right, the candidate is judged. Probes are taken in the order of the
forward pass, so that the first failure names the operation at fault and not one that inherits it.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from gptoss_weights import CheckpointError, ParityError, probe_specs

from gptoss_parity.measures import Failure, ProbeMeasures, align_router_weights, measure_probe
from gptoss_parity.probe_names import ProbeName, parse_probe_name
from gptoss_parity.routing import FlipKind, Routing, compare_routing
from gptoss_parity.tolerances import Tolerances, tolerances_for
from gptoss_parity.trace import TOKENS, Trace, TraceMetadata

__all__ = ["Comparison", "compare"]

_INDICES = "router_indices"
_WEIGHTS = "router_weights"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came of comparing two traces.

    Attributes:
        reference: What is right.
        candidate: What is judged.
        tolerances: The limits that were applied.
        probes: Measures of every floating-point probe, in the order of the forward pass.
        routing: The experts that were chosen.
        failures: All that is past its limit, missing or not finite, in the same order; none means passed.
        warnings: What does not decide the verdict but may explain it.
    """

    reference: Trace
    candidate: Trace
    tolerances: Tolerances
    probes: tuple[ProbeMeasures, ...]
    routing: Routing
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the candidate agrees with the reference."""
        return not self.failures

    @property
    def tokens(self) -> np.ndarray:
        """The prompt of both, int64 [T]."""
        return self.reference.tokens

    @property
    def first_failure(self) -> Failure | None:
        """The earliest failure of the forward pass."""
        return self.failures[0] if self.failures else None

    @property
    def title(self) -> str:
        """Both sides in a few words."""
        return f"{_side(self.candidate.metadata)} against {_side(self.reference.metadata)}"

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        if not self.failures:
            return f"parity holds at all {len(self.probes)} probes ({self.title})"
        first, others = self.failures[0], len(self.failures) - 1
        more = f"; {others} more {'failure' if others == 1 else 'failures'} after it" if others else ""
        return f"parity fails first at {first.probe}: {first.sentence} ({self.title}{more})"

    def raise_if_failed(self) -> None:
        """Raises ParityError, with the first failure in words, unless parity holds."""
        if self.failures:
            raise ParityError(self.verdict)


def compare(reference: Trace, candidate: Trace, tolerances: Tolerances | None = None) -> Comparison:
    """Compares a candidate's trace with a reference's.

    Args:
        reference: What is right.
        candidate: What is judged.
        tolerances: The limits; by default those of the coarser dtype of the two.

    Raises:
        CheckpointError: the traces have different tokens, or their models different shapes.
    """
    _refuse_other_tokens(reference, candidate)
    _refuse_other_shapes(reference, candidate)
    limits = tolerances or tolerances_for(reference.metadata.dtype, candidate.metadata.dtype)
    routing = compare_routing(reference, candidate, limits)
    failures = [*_missing(reference, candidate), *_real_flips(routing)]
    probes = []
    for probe in _shared_probes(reference, candidate):
        if probe.is_integer:
            continue
        expected, found = reference[probe.name], candidate[probe.name]
        if probe.kind == _WEIGHTS:
            expected, found, reach = _weights_by_expert(probe, reference, candidate, routing)
        else:
            reach = routing.reach_at(probe.layer, probe.kind, len(reference.tokens))
        measures = measure_probe(probe, expected, found, reach, limits, depth=_depth(probe, reference))
        probes.append(measures)
        failures += measures.failures
    return Comparison(
        reference=reference,
        candidate=candidate,
        tolerances=limits,
        probes=tuple(probes),
        routing=routing,
        failures=tuple(sorted(failures, key=_failure_order)),
        warnings=tuple(_warnings(reference.metadata, candidate.metadata)),
    )


def _refuse_other_tokens(reference: Trace, candidate: Trace) -> None:
    if len(reference.tokens) != len(candidate.tokens):
        raise CheckpointError(
            "the two traces were recorded from prompts of different length",
            where=candidate.where,
            expected=f"{len(reference.tokens)} tokens as in {reference.where}",
            found=len(candidate.tokens),
        )
    differing = np.flatnonzero(reference.tokens != candidate.tokens)
    if differing.size:
        at = int(differing[0])
        raise CheckpointError(
            "the two traces were recorded from different tokens",
            where=f"{candidate.where}: tokens[{at}]",
            expected=f"{reference.tokens[at]} as in {reference.where}",
            found=candidate.tokens[at],
        )


def _refuse_other_shapes(reference: Trace, candidate: Trace) -> None:
    for name in reference:
        if name in candidate and reference[name].shape != candidate[name].shape:
            raise CheckpointError(
                "the two traces are of models of different geometry",
                where=f"{candidate.where}: {name}",
                expected=f"shape {reference[name].shape} as in {reference.where}",
                found=candidate[name].shape,
            )


def _shared_probes(reference: Trace, candidate: Trace) -> list[ProbeName]:
    parsed = [parse_probe_name(name) for name in reference if name in candidate]
    return [probe for probe in parsed if probe is not None]


def _depth(probe: ProbeName, trace: Trace) -> int:
    """How many layers lie before a probe, its own included."""
    if probe.layer is not None:
        return probe.layer + 1
    return 0 if probe.kind == "embedding" else max(trace.layers, default=-1) + 1


def _missing(reference: Trace, candidate: Trace) -> Iterator[Failure]:
    """What either side lacks of the other, and what both lack of the probes that their model has.

    Without a config in either's metadata, what the model has is not known.
    """
    for have, lack, side in ((reference, candidate, "candidate"), (candidate, reference, "reference")):
        for name in have:
            if name not in lack:
                yield Failure(probe=name, measure="present", sentence=f"missing in the {side}")
    config = reference.metadata.config or candidate.metadata.config
    for name in () if config is None else probe_specs(config, len(reference.tokens)):
        if name != TOKENS and name not in reference and name not in candidate:
            yield Failure(probe=name, measure="present", sentence="missing in both traces")
    if not any(name in candidate for name in reference):
        yield Failure(probe="logits", measure="present", sentence="the traces have no probe in common")


def _real_flips(routing: Routing) -> Iterator[Failure]:
    """One failure a layer, for its worst flip that rounding does not explain."""
    for layer in routing.layers:
        real = [flip for flip in layer.flips if flip.kind is FlipKind.REAL]
        if real:
            worst = max(real, key=lambda flip: flip.gap)
            what = "orders its experts" if worst.is_order_only else "chooses experts"
            sentence = (
                f"token {worst.token} {what} {list(worst.candidate)} instead of {list(worst.reference)}, whose router "
                f"logits differ by {worst.gap:.2e}, past {worst.limit:.0e} ({len(real)} such flips in this layer)"
            )
            yield Failure(
                probe=f"layers.{layer.layer}.{_INDICES}",
                measure="router gap",
                sentence=sentence,
                value=worst.gap,
                limit=worst.limit,
            )


def _weights_by_expert(
    probe: ProbeName, reference: Trace, candidate: Trace, routing: Routing
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both sides' gate weights in the order of expert numbers; a token's weights for other experts are not judged."""
    expected, found = reference[probe.name], candidate[probe.name]
    reach = routing.reach_at(probe.layer, "output", len(reference.tokens))
    indices = f"layers.{probe.layer}.{_INDICES}"
    if indices in reference and indices in candidate:
        expected = align_router_weights(expected, reference[indices])
        found = align_router_weights(found, candidate[indices])
    return expected, found, reach


def _failure_order(failure: Failure) -> tuple[int, int, int]:
    probe = parse_probe_name(failure.probe)
    if probe is None:
        raise AssertionError(f"{failure.probe} is no probe")
    return probe.order


def _warnings(reference: TraceMetadata, candidate: TraceMetadata) -> Iterator[str]:
    digests = (reference.checkpoint_digest, candidate.checkpoint_digest)
    if None not in digests and digests[0] != digests[1]:
        yield (
            f"the traces come from different checkpoints: {_short(digests[0])} (reference) "
            f"and {_short(digests[1])} (candidate)"
        )
    if reference.config is not None and candidate.config is not None:
        ours, theirs = reference.config.numbers(), candidate.config.numbers()
        for name in ours:
            if ours[name] != theirs[name]:
                yield f"the configs differ: {name} is {ours[name]} (reference) and {theirs[name]} (candidate)"


def _short(digest: str | None) -> str:
    return (digest or "")[:12]


def _side(metadata: TraceMetadata) -> str:
    return f"{metadata.source} {metadata.dtype}"
