"""Which experts each side chose, whether a difference is arithmetic or a fault, and whom it reaches.

A flip is a token at which a layer's experts differ. How far the router had to be wrong for it is its
gap: the reference's router logit of the best expert dropped, less that of the worst one added; for
the usual swap of the k-th and (k+1)-th expert this is the margin between them. A gap within
the tolerance is a near-tie: rounding decides it, in any two correct implementations. At a token that
an earlier flip has reached, the router's input already differs, and a flip is its consequence. Any
other flip is real.
"""

import dataclasses
import enum
import math

import numpy as np
from gptoss_weights import GptOssConfig, layer_probe

from gptoss_parity.expert_order import align_by_expert
from gptoss_parity.tolerances import Tolerances
from gptoss_parity.trace import Trace

__all__ = ["Flip", "FlipKind", "LayerRouting", "Reach", "Routing", "compare_routing"]

_BEHIND_ROUTING = ("pre_activation", "activated", "expert_outputs", "combined_output", "output")


class FlipKind(enum.StrEnum):
    """Why two implementations chose other experts."""

    NEAR_TIE = "near-tie"
    CONSEQUENCE = "consequence"
    REAL = "real"


class Reach(enum.IntEnum):
    """What earlier flips mean for a token's row."""

    CLEAN = 0  # none can have influenced it
    REACHED = 1  # it sees, through attention, a token that was flipped or reached
    FLIPPED = 2  # it went through other experts itself


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flip:
    """One token at one layer with other experts, or with the same in another order.

    `gap` is in units of router logits; infinite where the choice is impossible (an expert twice).
    """

    layer: int
    token: int
    reference: tuple[int, ...]
    candidate: tuple[int, ...]
    gap: float
    limit: float
    kind: FlipKind

    @property
    def is_order_only(self) -> bool:
        """Whether the same experts were chosen, best first in another order."""
        return sorted(self.reference) == sorted(self.candidate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerRouting:
    """One layer's choices over T tokens.

    `same_experts` (as a set) and `same_order` are bool [T]; `margin` float64 [T] is the reference's
    k-th less its (k+1)-th router logit, infinite where all experts are chosen, and NaN without
    router logits. `weight_difference` is the largest difference of a gate weight between tokens with
    the same experts; None where there is no such token, or no weights.
    """

    layer: int
    same_experts: np.ndarray
    same_order: np.ndarray
    margin: np.ndarray
    flips: tuple[Flip, ...]
    weight_difference: float | None = None

    @property
    def is_flipped(self) -> np.ndarray:
        """Tokens with other experts, bool [T]."""
        return ~self.same_experts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Routing:
    """All layers' choices; `into` and `out_of` hold the tokens' `Reach`, int8 [T], around each layer's experts."""

    layers: tuple[LayerRouting, ...]
    into: dict[int, np.ndarray]
    out_of: dict[int, np.ndarray]

    @property
    def flips(self) -> tuple[Flip, ...]:
        """Every flip, in the order of the forward pass."""
        return tuple(flip for layer in self.layers for flip in layer.flips)

    def reach_at(self, layer: int | None, kind: str, tokens: int) -> np.ndarray:
        """The tokens' `Reach` at a probe: before a layer's experts, after them, or outside the layers."""
        if layer is not None:
            return (self.out_of if kind in _BEHIND_ROUTING else self.into).get(layer, np.zeros(tokens, np.int8))
        if kind == "embedding" or not self.out_of:
            return np.zeros(tokens, np.int8)
        return self.out_of[max(self.out_of)]


def compare_routing(reference: Trace, candidate: Trace, tolerances: Tolerances) -> Routing:
    """Compares `router_indices` of every layer that both traces hold."""
    reach = np.zeros(len(reference.tokens), np.int8)
    layers: list[LayerRouting] = []
    into: dict[int, np.ndarray] = {}
    out_of: dict[int, np.ndarray] = {}
    for layer in reference.layers:
        reach = _through_attention(reach, layer, reference.metadata.config)
        into[layer] = reach
        name = layer_probe(layer, "router_indices")
        if name in reference and name in candidate:
            logits = reference.get(layer_probe(layer, "router_logits"))
            compared = _compare_layer(layer, reference[name], candidate[name], logits, reach, tolerances)
            difference = _weight_difference(layer, reference, candidate, compared.same_experts)
            layers.append(dataclasses.replace(compared, weight_difference=difference))
            reach = np.where(compared.same_experts, reach, np.int8(Reach.FLIPPED))
        out_of[layer] = reach
    return Routing(layers=tuple(layers), into=into, out_of=out_of)


def _through_attention(reach: np.ndarray, layer: int, config: GptOssConfig | None) -> np.ndarray:
    """Marks the clean tokens that see a marked one; without a config every layer sees everything before."""
    marked = np.flatnonzero(reach)
    if not marked.size:
        return reach
    tokens = np.arange(len(reach))
    latest = np.searchsorted(marked, tokens) - 1  # the last marked token before each
    distance = tokens - marked[np.maximum(latest, 0)]
    window = config.sliding_window if config is not None and config.is_sliding(layer) else len(reach)
    sees = (latest >= 0) & (distance < window)
    return np.where(sees & (reach == Reach.CLEAN), np.int8(Reach.REACHED), reach)


def _weight_difference(layer: int, reference: Trace, candidate: Trace, same_experts: np.ndarray) -> float | None:
    weights = layer_probe(layer, "router_weights")
    indices = layer_probe(layer, "router_indices")
    if weights not in reference or weights not in candidate or not same_experts.any():
        return None
    aligned = [align_by_expert(trace[weights], trace[indices])[same_experts] for trace in (reference, candidate)]
    return float(np.abs(aligned[0] - aligned[1]).max())


def _compare_layer(
    layer: int,
    reference: np.ndarray,
    candidate: np.ndarray,
    logits: np.ndarray | None,
    reach: np.ndarray,
    tolerances: Tolerances,
) -> LayerRouting:
    same_order = (reference == candidate).all(axis=-1)
    same_experts = (np.sort(reference, axis=-1) == np.sort(candidate, axis=-1)).all(axis=-1)
    flips = []
    for token in np.flatnonzero(~same_order):
        row = None if logits is None else logits[token].astype(np.float64)
        gap = math.inf if row is None else _gap(row, reference[token].tolist(), candidate[token].tolist())
        limit = tolerances.margin.value
        if row is not None:
            limit += tolerances.margin_per_rms.value * math.sqrt(float(np.mean(row * row)))
        flips.append(
            Flip(
                layer=layer,
                token=int(token),
                reference=tuple(reference[token].tolist()),
                candidate=tuple(candidate[token].tolist()),
                gap=gap,
                limit=limit,
                kind=_kind(gap, limit, Reach(int(reach[token]))),
            )
        )
    return LayerRouting(
        layer=layer,
        same_experts=same_experts,
        same_order=same_order,
        margin=_margins(logits, reference.shape),
        flips=tuple(flips),
    )


def _kind(gap: float, limit: float, reach: Reach) -> FlipKind:
    if gap <= limit:
        return FlipKind.NEAR_TIE
    return FlipKind.CONSEQUENCE if reach != Reach.CLEAN and math.isfinite(gap) else FlipKind.REAL


def _gap(logits: np.ndarray, reference: list[int], candidate: list[int]) -> float:
    """How far apart the reference's router logits [E] hold what the candidate took for the other way round."""
    experts = range(len(logits))
    if len(set(candidate)) < len(candidate) or any(expert not in experts for expert in candidate):
        return math.inf
    dropped = [logits[expert] for expert in reference if expert not in candidate]
    added = [logits[expert] for expert in candidate if expert not in reference]
    if dropped:
        return float(max(dropped) - min(added))
    ranked = logits[candidate]
    return float(max(later - earlier for rank, earlier in enumerate(ranked) for later in ranked[rank:]))


def _margins(logits: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    tokens, chosen = shape
    if logits is None:
        return np.full(tokens, np.nan)
    if chosen == logits.shape[-1]:
        return np.full(tokens, np.inf)
    descending = -np.partition(-logits.astype(np.float64), (chosen - 1, chosen), axis=-1)
    margins: np.ndarray = descending[:, chosen - 1] - descending[:, chosen]
    return margins
