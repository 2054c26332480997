"""What is measured at one probe, and held against the limits."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
from gptoss_weights import BLOCK_DEBUG_PROBES

from gptoss_parity.failures import Failure
from gptoss_parity.logits_measures import LogitsMeasures, measure_logits
from gptoss_parity.probe_names import ProbeName
from gptoss_parity.routing import Reach
from gptoss_parity.rows import RowErrors, row_errors
from gptoss_parity.tolerances import Limit, Tolerances

__all__ = ["ProbeMeasures", "TokenError", "measure_probe"]

_ROUTER_KINDS = ("router_logits", "router_weights")
_LOGITS = "logits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenError:
    """The token whose own row has the largest relative L2."""

    token: int
    relative_l2: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeMeasures:
    """How far one probe of the candidate is from the reference's.

    Attributes:
        name: The probe.
        shape: Its shape, [T, …].
        max_abs: Largest absolute difference over all tokens; NaN if a value is not finite.
        max_abs_index: Where: token and place in its row.
        max_relative: Largest difference over the reference's element there; infinite where that is 0.
        max_relative_index: Where: token and place in its row.
        relative_l2: Over all tokens.
        cosine: Of the angle between both sides' values, over all tokens.
        by_token: Of each token's own row, float64 [T].
        reach: What earlier flips mean for each token's row, `Reach` as int8 [T].
        clean_relative_l2: Over the tokens that no flip reaches; None if there is none.
        limit: What `clean_relative_l2` may be.
        reached_relative_l2: Over those that see a flipped token; None if there is none.
        flipped_relative_l2: Over those that went through other experts; None if there is none.
        worst_clean: The worst token that no flip reaches; None if there is none.
        tokens_by_reach: How many tokens of each kind.
        logits: What is measured of logits alone.
        failures: The limits that it is past.
    """

    name: str
    shape: tuple[int, ...]
    max_abs: float
    max_abs_index: tuple[int, int]
    max_relative: float
    max_relative_index: tuple[int, int]
    relative_l2: float
    cosine: float
    by_token: np.ndarray
    reach: np.ndarray
    clean_relative_l2: float | None
    limit: float
    reached_relative_l2: float | None
    flipped_relative_l2: float | None
    worst_clean: TokenError | None
    tokens_by_reach: Mapping[Reach, int]
    logits: LogitsMeasures | None
    failures: tuple[Failure, ...]

    @property
    def passed(self) -> bool:
        """Whether it keeps every limit."""
        return not self.failures

    @property
    def argmax_agreement(self) -> float | None:
        """Logits only: share of tokens with the same likeliest next token."""
        return None if self.logits is None else self.logits.argmax_agreement

    @property
    def top_k_overlap(self) -> float | None:
        """Logits only: mean share of the likeliest tokens that both have."""
        return None if self.logits is None else self.logits.top_k_overlap


def measure_probe(
    probe: ProbeName,
    reference: np.ndarray,
    candidate: np.ndarray,
    reach: np.ndarray,
    tolerances: Tolerances,
    *,
    depth: int,
) -> ProbeMeasures:
    """Compares one floating-point probe.

    Args:
        probe: Which one.
        reference: [T, …].
        candidate: Of the same shape.
        reach: The tokens' `Reach` at this probe, [T].
        tolerances: The limits.
        depth: How many layers lie before the probe, its own included.
    """
    shape, tokens = reference.shape, len(reference)
    reference, candidate = reference.reshape(tokens, -1), candidate.reshape(tokens, -1)
    rows = row_errors(reference, candidate)
    by_reach = {kind: reach == kind for kind in Reach}
    shares = {kind: rows.relative_l2(selected) if selected.any() else None for kind, selected in by_reach.items()}
    worst = rows.worst_token(by_reach[Reach.CLEAN])
    token, relative = (int(np.argmax(values)) for values in (rows.max_abs, rows.max_relative))  # the first NaN, if any
    if rows.is_finite.all():
        failures = tuple(_limit_failures(probe, rows, by_reach, tolerances, depth))
    else:
        failures = (_not_finite(probe, reference, candidate, rows),)
    return ProbeMeasures(
        name=probe.name,
        shape=shape,
        max_abs=float(rows.max_abs[token]),
        max_abs_index=(token, int(rows.max_abs_at[token])),
        max_relative=float(rows.max_relative[relative]),
        max_relative_index=(relative, int(rows.max_relative_at[relative])),
        relative_l2=rows.relative_l2(),
        cosine=rows.cosine(),
        by_token=rows.by_token(),
        reach=reach,
        clean_relative_l2=shares[Reach.CLEAN],
        limit=_limit(probe, tolerances).at(depth),
        reached_relative_l2=shares[Reach.REACHED],
        flipped_relative_l2=shares[Reach.FLIPPED],
        worst_clean=None if worst is None else TokenError(token=worst[0], relative_l2=worst[1]),
        tokens_by_reach={kind: int(selected.sum()) for kind, selected in by_reach.items()},
        logits=_logits_measures(reference, candidate, tolerances) if probe.name == _LOGITS else None,
        failures=failures,
    )


def _limit(probe: ProbeName, tolerances: Tolerances) -> Limit:
    """What all clean tokens together may be off by."""
    if probe.kind in _ROUTER_KINDS:
        return tolerances.router
    return tolerances.inner if probe.kind in BLOCK_DEBUG_PROBES else tolerances.hidden


def _logits_measures(reference: np.ndarray, candidate: np.ndarray, tolerances: Tolerances) -> LogitsMeasures:
    """Next tokens all but tie where two router logits would: rounding knows no difference between the two."""
    return measure_logits(
        reference,
        candidate,
        tie_margin=tolerances.margin.value,
        tie_margin_per_rms=tolerances.margin_per_rms.value,
    )


def _limit_failures(
    probe: ProbeName, rows: RowErrors, by_reach: Mapping[Reach, np.ndarray], tolerances: Tolerances, depth: int
) -> Iterator[Failure]:
    clean, reached = by_reach[Reach.CLEAN], by_reach[Reach.REACHED]
    if probe.kind in _ROUTER_KINDS:
        if rows.largest(clean) > tolerances.margin.value:
            yield from _past(probe, "relative L2", rows.relative_l2(clean), tolerances.router.at(depth))
        return
    of_token = tolerances.inner_token if probe.kind in BLOCK_DEBUG_PROBES else tolerances.token
    where = "" if clean.all() else " of the tokens that no flip reaches"
    yield from _past(probe, f"relative L2{where}", rows.relative_l2(clean), _limit(probe, tolerances).at(depth))
    worst = rows.worst_token(clean)
    if worst is not None:
        yield from _past(probe, f"relative L2 of token {worst[0]}", worst[1], of_token.at(depth))
    seeing = "relative L2 of the tokens that see a flip"
    yield from _past(probe, seeing, rows.relative_l2(reached), tolerances.reached.at(depth))


def _past(probe: ProbeName, measure: str, value: float, limit: float) -> Iterator[Failure]:
    if not value <= limit:
        sentence = f"{measure} is {value:.2e}, past {limit:.2g}"
        yield Failure(probe=probe.name, measure=measure, sentence=sentence, value=value, limit=limit)


def _not_finite(probe: ProbeName, reference: np.ndarray, candidate: np.ndarray, rows: RowErrors) -> Failure:
    token = int(np.flatnonzero(~rows.is_finite)[0])
    sides = [
        f"{side} ({values[np.flatnonzero(~np.isfinite(values))[0]]} at place {np.flatnonzero(~np.isfinite(values))[0]})"
        for side, values in (("reference", reference[token]), ("candidate", candidate[token]))
        if not np.isfinite(values).all()
    ]
    sentence = f"not finite at token {token} in the {' and in the '.join(sides) or 'difference'}"
    return Failure(probe=probe.name, measure="finite", sentence=sentence)
