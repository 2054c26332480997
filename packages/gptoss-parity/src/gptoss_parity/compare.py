"""Comparison: one trace against another, a verdict, and the first place where it fails.

The reference says what is right, the candidate is judged. Probes are taken in the order of the
forward pass, so that the first failure names the operation at fault and not one that inherits it.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from gptoss_weights import BLOCK_DEBUG_PROBES, CheckpointError, ParityError, probe_specs

from gptoss_parity.canaries import Canary, measure_canaries
from gptoss_parity.expert_order import in_expert_order, is_by_expert
from gptoss_parity.failures import Failure
from gptoss_parity.logits_check import LOGITS, LogitsCheck
from gptoss_parity.measures import ProbeMeasures, measure_probe
from gptoss_parity.noise import Noise
from gptoss_parity.probe_names import ProbeName, parse_probe_name
from gptoss_parity.replay import DivergenceSplit
from gptoss_parity.routing import FlipKind, Routing, compare_routing
from gptoss_parity.tolerances import Tolerances, tolerances_between
from gptoss_parity.trace import TOKENS, Trace, TraceMetadata

__all__ = ["Comparison", "compare", "judge"]

_INDICES = "router_indices"
_ALWAYS = ("finite", "present")  # failures of the logits that no limit excuses
_NAMED = 4  # probes, of those that a partial trace holds


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
        canaries: The positions at which errors of windows and rotary scaling first show.
        check: The limits for logits that alone decide the verdict, if they were given.
        unjudged: What is past its own limit and does not count, for `check` decides alone.
        split: How much of the divergence is other experts, if a side was run with the other's.
        noise: How far the reference is from itself, if it was run more than once.
        prompt: Which of several prompts, from 1 on; None where there is one.
        warnings: What does not decide the verdict but may explain it.
    """

    reference: Trace
    candidate: Trace
    tolerances: Tolerances
    probes: tuple[ProbeMeasures, ...]
    routing: Routing
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]
    check: LogitsCheck | None = None
    unjudged: tuple[Failure, ...] = ()
    canaries: tuple[Canary, ...] = ()
    split: DivergenceSplit | None = None
    noise: tuple[Noise, ...] = ()
    prompt: int | None = None

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
        which = "" if self.prompt is None else f", prompt {self.prompt}"
        return f"{_side(self.candidate.metadata)} against {_side(self.reference.metadata)}{which}"

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        if not self.failures and self.check is not None:
            return f"the logits keep {self.check.words} ({self.title})"
        if not self.failures:
            probes = (
                f"all {len(self.probes)} probes" if len(self.probes) > 1 else f"the one probe, {self.probes[0].name}"
            )
            return f"parity holds at {probes} ({self.title})"
        first, others = self.failures[0], len(self.failures) - 1
        more = f"; {others} more {'failure' if others == 1 else 'failures'} after it" if others else ""
        return f"parity fails first at {first.probe}: {first.sentence} ({self.title}{more})"

    def raise_if_failed(self) -> None:
        """Raises ParityError, with the first failure in words, unless parity holds."""
        if self.failures:
            raise ParityError(self.verdict)


def compare(
    reference: Trace,
    candidate: Trace,
    tolerances: Tolerances | None = None,
    *,
    check: LogitsCheck | None = None,
    judge_all: bool = False,
) -> Comparison:
    """Compares a candidate's trace with a reference's.

    Args:
        reference: What is right.
        candidate: What is judged.
        tolerances: The limits; by default those of the coarser dtype of the two.
        check: Limits for the logits that decide in place of all others.
        judge_all: Whether all others decide too, beside `check`.

    Raises:
        CheckpointError: the traces have different tokens, their models different shapes, or a dtype
            has no limits.
    """
    _refuse_other_tokens(reference, candidate)
    _refuse_other_shapes(reference, candidate)
    limits = tolerances or tolerances_between(reference.metadata, candidate.metadata)
    routing = compare_routing(reference, candidate, limits)
    config = reference.metadata.config or candidate.metadata.config
    probes = []
    for probe in _shared_probes(reference, candidate):
        if probe.is_integer:
            continue
        expected, found = in_expert_order(probe, reference), in_expert_order(probe, candidate)
        # A token's values of its own experts are not judged where the other side has others.
        kind = "output" if is_by_expert(probe) else probe.kind
        reach = routing.reach_at(probe.layer, kind, len(reference.tokens))
        probes.append(measure_probe(probe, expected, found, reach, limits, depth=_depth(probe, reference)))
    logits = (reference[LOGITS], candidate[LOGITS]) if LOGITS in reference and LOGITS in candidate else None
    comparison = judge(
        reference, candidate, limits, routing, probes, logits=logits, check=check, judge_all=judge_all,
        missing=list(_missing(reference, candidate)),
    )  # fmt: skip
    canaries = measure_canaries(
        probes,
        routing,
        None if logits is None else logits[0],
        None if logits is None else logits[1],
        tokens=len(reference.tokens),
        window=None if config is None else config.sliding_window,
    )
    warnings = (*comparison.warnings, *_left_out(reference, candidate))
    return dataclasses.replace(comparison, canaries=canaries, warnings=warnings)


def judge(
    reference: Trace,
    candidate: Trace,
    limits: Tolerances,
    routing: Routing,
    probes: Sequence[ProbeMeasures],
    *,
    logits: tuple[np.ndarray, np.ndarray] | None,
    check: LogitsCheck | None,
    judge_all: bool,
    missing: Sequence[Failure] = (),
) -> Comparison:
    """The verdict over what was measured, in the order of the forward pass; `logits` are both sides' [T, V]."""
    failures = [*missing, *_real_flips(routing), *(failure for probe in probes for failure in probe.failures)]
    unjudged: list[Failure] = []
    if check is not None and not judge_all:
        unjudged = [failure for failure in failures if failure.probe != LOGITS or failure.measure not in _ALWAYS]
        failures = [failure for failure in failures if failure not in unjudged]
    if check is not None:
        failures += _checked(check, logits, probes)
    unjudged.sort(key=_failure_order)
    return Comparison(
        reference=reference,
        candidate=candidate,
        tolerances=limits,
        probes=tuple(probes),
        routing=routing,
        failures=tuple(sorted(failures, key=_failure_order)),
        warnings=(*_warnings(reference.metadata, candidate.metadata), *_not_judged(unjudged, check)),
        check=check,
        unjudged=tuple(unjudged),
    )


def _checked(
    check: LogitsCheck, logits: tuple[np.ndarray, np.ndarray] | None, probes: Sequence[ProbeMeasures]
) -> list[Failure]:
    measures = next((probe.logits for probe in probes if probe.logits is not None), None)
    if logits is None or measures is None:
        sentence = f"there are no logits in both traces to hold against {check.words}"
        return [Failure(probe=LOGITS, measure="present", sentence=sentence)]
    if np.isnan(measures.kl_max):
        return []  # reported as not finite
    return list(check.failures(*logits, measures))


def _not_judged(unjudged: Sequence[Failure], check: LogitsCheck | None) -> Iterator[str]:
    if unjudged and check is not None:
        first = unjudged[0]
        count = len({failure.probe for failure in unjudged})
        probes = "1 probe is" if count == 1 else f"{count} probes are"
        yield (
            f"only the logits are judged, by {check.words}; {probes} past other limits, "
            f"first {first.probe}: {first.sentence}"
        )


def _left_out(reference: Trace, candidate: Trace) -> Iterator[str]:
    """What a source that knows only some probes could not be compared at."""
    for trace, role in ((reference, "reference"), (candidate, "candidate")):
        if trace.metadata.is_partial:
            has = ", ".join(trace) if len(trace) <= _NAMED else f"{len(trace)} probes"
            yield f"the {role} ({trace.metadata.source}) holds {has} only; nothing else could be compared"


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

    Without a config in either's metadata, what the model has is not known. What a source cannot know is
    not missed, and block-debug probes are missed only where a trace has others of them.
    """
    traces = (reference, candidate)
    is_excused = any(trace.metadata.is_partial for trace in traces)
    inner = [any(_is_inner(name) for name in trace) for trace in traces]
    for have, lack, side in ((reference, candidate, "candidate"), (candidate, reference, "reference")):
        for name in have:
            if name not in lack and not lack.metadata.is_partial and not (_is_inner(name) and not all(inner)):
                yield Failure(probe=name, measure="present", sentence=f"missing in the {side}")
    config = reference.metadata.config or candidate.metadata.config
    if config is not None and not is_excused:
        for name in probe_specs(config, len(reference.tokens), block_debug=all(inner)):
            if name != TOKENS and name not in reference and name not in candidate:
                yield Failure(probe=name, measure="present", sentence="missing in both traces")
    if not any(name in candidate for name in reference):
        yield Failure(probe=LOGITS, measure="present", sentence="the traces have no probe in common")


def _is_inner(name: str) -> bool:
    return name.rpartition(".")[2] in BLOCK_DEBUG_PROBES


def _real_flips(routing: Routing) -> Iterator[Failure]:
    """One failure a layer, for its worst flip that rounding does not explain."""
    for layer in routing.layers:
        real = [flip for flip in layer.flips if flip.kind is FlipKind.REAL]
        if real:
            worst = max(real, key=lambda flip: flip.gap)
            what = "orders its experts" if worst.is_order_only else "chooses experts"
            flips = "flip" if len(real) == 1 else "flips"
            sentence = (
                f"token {worst.token} {what} {list(worst.candidate)} instead of {list(worst.reference)}, whose router "
                f"logits differ by {worst.gap:.2e}, past {worst.limit:.0e} ({len(real)} such {flips} in this layer)"
            )
            yield Failure(
                probe=f"layers.{layer.layer}.{_INDICES}",
                measure="router gap",
                sentence=sentence,
                value=worst.gap,
                limit=worst.limit,
            )


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
