"""What is measured of logits alone: the distributions they stand for, and which tokens they rank first.

KL is that of the candidate's next-token distribution from the reference's, KL(reference ‖ candidate),
in nats, computed in float64 and a block of rows at a time.
"""

import dataclasses

import numpy as np

__all__ = ["LogitsMeasures", "measure_logits", "relative_entropies"]

TOP_K = 10  # likeliest next tokens that are compared as a set and in order
_BLOCK_ELEMENTS = 1 << 20  # 8 MiB of float64


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitsMeasures:
    """Of logits [T, V], over T tokens.

    Attributes:
        kl: KL(reference ‖ candidate) of each token, float64 [T]; NaN where a row is not finite.
        top_k: How many of the likeliest tokens the next three compare.
        top_k_overlap: Mean share of them that both sides have.
        jaccard: Mean of shared over all that either side has.
        rank_agreement: Mean share of the first `top_k` places at which both have the same token.
        argmax_agreement: Share of tokens with the same likeliest next token.
        argmax_agreement_outside_ties: The same over the tokens whose reference's first and second
            are no near-tie; None if all are.
        near_ties: How many tokens' first and second are one.
        differing: The tokens whose likeliest next token differs, and is no near-tie.
    """

    kl: np.ndarray
    top_k: int
    top_k_overlap: float
    jaccard: float
    rank_agreement: float
    argmax_agreement: float
    argmax_agreement_outside_ties: float | None
    near_ties: int
    differing: tuple[int, ...]

    @property
    def kl_mean(self) -> float:
        """Mean over the tokens; NaN if a row is not finite."""
        return float(self.kl.mean())

    @property
    def kl_p95(self) -> float:
        """What 95 % of the tokens do not exceed."""
        return float(np.percentile(self.kl, 95))

    @property
    def kl_max(self) -> float:
        """The largest; NaN if a row is not finite."""
        return float(self.kl.max())

    @property
    def kl_max_token(self) -> int:
        """Its token, or the first one whose row is not finite."""
        return int(np.argmax(self.kl))


def measure_logits(
    reference: np.ndarray, candidate: np.ndarray, *, tie_margin: float, tie_margin_per_rms: float, top_k: int = TOP_K
) -> LogitsMeasures:
    """Compares logits [T, V].

    Args:
        reference: What is right.
        candidate: What is judged.
        tie_margin: The first two of the reference are a near-tie if no further apart than this …
        tie_margin_per_rms: … plus this many times the root mean square of the row.
        top_k: How many of the likeliest tokens to compare.
    """
    k = min(top_k, reference.shape[1])
    expected, found = (_best(logits, k) for logits in (reference, candidate))
    shared = np.array([len(set(e.tolist()) & set(f.tolist())) for e, f in zip(expected, found, strict=True)])
    is_same = expected[:, 0] == found[:, 0]
    is_tie = _near_ties(reference, tie_margin, tie_margin_per_rms)
    outside = ~is_tie
    return LogitsMeasures(
        kl=relative_entropies(reference, candidate),
        top_k=k,
        top_k_overlap=float(shared.mean() / k),
        jaccard=float((shared / (2 * k - shared)).mean()),
        rank_agreement=float((expected == found).mean()),
        argmax_agreement=float(is_same.mean()),
        argmax_agreement_outside_ties=float(is_same[outside].mean()) if outside.any() else None,
        near_ties=int(is_tie.sum()),
        differing=tuple(np.flatnonzero(outside & ~is_same).tolist()),
    )


def relative_entropies(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """KL(reference ‖ candidate) of each row of two arrays of logits [T, V], float64 [T]."""
    tokens, width = reference.shape
    kl = np.empty(tokens)
    step = max(1, _BLOCK_ELEMENTS // width)
    for start in range(0, tokens, step):
        block = slice(start, start + step)
        with np.errstate(invalid="ignore", over="ignore"):
            expected, found = (_log_softmax(logits[block]) for logits in (reference, candidate))
            # Rounding may leave −1e-17 where both are equal.
            kl[block] = np.maximum(np.einsum("tv,tv->t", np.exp(expected), expected - found), 0.0)
    return kl


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def _best(logits: np.ndarray, k: int) -> np.ndarray:
    """The k likeliest tokens, best first and among equals the lowest id, [T, k]."""
    rows = np.empty((len(logits), k), np.int64)
    for row, values in enumerate(logits):
        least = np.partition(values, len(values) - k)[len(values) - k]  # the k-th largest
        among = np.flatnonzero(~(values < least))  # what is no number stays in, and counts as the least likely
        rows[row] = among[np.argsort(-values[among], kind="stable")][:k]
    return rows


def _near_ties(reference: np.ndarray, margin: float, margin_per_rms: float) -> np.ndarray:
    if reference.shape[1] == 1:
        return np.zeros(len(reference), np.bool_)
    first_two = np.partition(reference, -2, axis=-1)[:, -2:].astype(np.float64)
    rms = np.sqrt(np.array([np.mean(np.square(row, dtype=np.float64)) for row in reference]))
    ties: np.ndarray = first_two[:, 1] - first_two[:, 0] <= margin + margin_per_rms * rms
    return ties
