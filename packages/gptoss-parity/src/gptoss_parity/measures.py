"""What is measured at one probe, and held against the limits."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from gptoss_parity.probe_names import ProbeName
from gptoss_parity.routing import Reach
from gptoss_parity.rows import RowErrors, row_errors
from gptoss_parity.tolerances import Tolerances

__all__ = ["Failure", "ProbeMeasures", "TokenError", "align_router_weights", "measure_probe"]

TOP_K = 5  # candidates for the next token that top-k overlap compares
_ROUTER_KINDS = ("router_logits", "router_weights")
_LOGITS = "logits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """One limit that was passed, or one thing that cannot be compared at all."""

    probe: str
    measure: str
    sentence: str
    value: float | None = None
    limit: float | None = None


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
        relative_l2: Over all tokens.
        by_token: Of each token's own row, float64 [T].
        clean_relative_l2: Over the tokens that no flip reaches; None if there is none.
        limit: What `clean_relative_l2` may be.
        reached_relative_l2: Over those that see a flipped token; None if there is none.
        flipped_relative_l2: Over those that went through other experts; None if there is none.
        worst_clean: The worst token that no flip reaches; None if there is none.
        tokens_by_reach: How many tokens of each kind.
        argmax_agreement: Logits only: share of tokens with the same likeliest next token.
        top_k_overlap: Logits only: mean share of the `TOP_K` likeliest that both have.
        failures: The limits that it is past.
    """

    name: str
    shape: tuple[int, ...]
    max_abs: float
    max_abs_index: tuple[int, int]
    relative_l2: float
    by_token: np.ndarray
    clean_relative_l2: float | None
    limit: float
    reached_relative_l2: float | None
    flipped_relative_l2: float | None
    worst_clean: TokenError | None
    tokens_by_reach: Mapping[Reach, int]
    argmax_agreement: float | None
    top_k_overlap: float | None
    failures: tuple[Failure, ...]

    @property
    def passed(self) -> bool:
        """Whether it keeps every limit."""
        return not self.failures


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
        reference: [T, n].
        candidate: [T, n].
        reach: The tokens' `Reach` at this probe, [T].
        tolerances: The limits.
        depth: How many layers lie before the probe, its own included.
    """
    rows = row_errors(reference, candidate)
    by_reach = {kind: reach == kind for kind in Reach}
    shares = {kind: rows.relative_l2(selected) if selected.any() else None for kind, selected in by_reach.items()}
    worst = rows.worst_token(by_reach[Reach.CLEAN])
    token = int(np.argmax(rows.max_abs))  # argmax returns the first NaN if there is one
    if rows.is_finite.all():
        failures = tuple(_limit_failures(probe, rows, by_reach, tolerances, depth))
    else:
        failures = (_not_finite(probe, reference, candidate, rows),)
    is_logits = probe.name == _LOGITS
    return ProbeMeasures(
        name=probe.name,
        shape=reference.shape,
        max_abs=float(rows.max_abs[token]),
        max_abs_index=(token, int(rows.max_abs_at[token])),
        relative_l2=rows.relative_l2(),
        by_token=rows.by_token(),
        clean_relative_l2=shares[Reach.CLEAN],
        limit=(tolerances.router if probe.kind in _ROUTER_KINDS else tolerances.hidden).at(depth),
        reached_relative_l2=shares[Reach.REACHED],
        flipped_relative_l2=shares[Reach.FLIPPED],
        worst_clean=None if worst is None else TokenError(token=worst[0], relative_l2=worst[1]),
        tokens_by_reach={kind: int(selected.sum()) for kind, selected in by_reach.items()},
        argmax_agreement=_argmax_agreement(reference, candidate) if is_logits else None,
        top_k_overlap=_top_k_overlap(reference, candidate) if is_logits else None,
        failures=failures,
    )


def align_router_weights(weights: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Weights [T, k] in the order of their experts' numbers, so that a tie's order does not matter."""
    return np.take_along_axis(weights, np.argsort(indices, axis=-1, kind="stable"), axis=-1)


def _limit_failures(
    probe: ProbeName, rows: RowErrors, by_reach: Mapping[Reach, np.ndarray], tolerances: Tolerances, depth: int
) -> Iterator[Failure]:
    clean, reached = by_reach[Reach.CLEAN], by_reach[Reach.REACHED]
    if probe.kind in _ROUTER_KINDS:
        if rows.largest(clean) > tolerances.margin.value:
            yield from _past(probe, "relative L2", rows.relative_l2(clean), tolerances.router.at(depth))
        return
    where = "" if clean.all() else " of the tokens that no flip reaches"
    yield from _past(probe, f"relative L2{where}", rows.relative_l2(clean), tolerances.hidden.at(depth))
    worst = rows.worst_token(clean)
    if worst is not None:
        yield from _past(probe, f"relative L2 of token {worst[0]}", worst[1], tolerances.token.at(depth))
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


def _argmax_agreement(reference: np.ndarray, candidate: np.ndarray) -> float:
    agrees: np.ndarray = reference.argmax(axis=-1) == candidate.argmax(axis=-1)
    return float(agrees.mean())


def _top_k_overlap(reference: np.ndarray, candidate: np.ndarray) -> float:
    k = min(TOP_K, reference.shape[-1])
    shared: list[int] = [
        len(set(np.argpartition(-expected, k - 1)[:k].tolist()) & set(np.argpartition(-found, k - 1)[:k].tolist()))
        for expected, found in zip(reference, candidate, strict=True)
    ]
    return float(sum(shared) / (k * len(shared)))
