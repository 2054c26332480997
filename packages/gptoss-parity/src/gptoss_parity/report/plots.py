"""The figures of a comparison as inline SVG, coloured by the page's own CSS variables.

Each is drawn by matplotlib in stand-in colours that are then replaced by `var(--…)`, so that one
figure serves light and dark. Text stays text. Nothing depends on time or on a random number.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from gptoss_parity.canaries import ORIGINAL_CONTEXT
from gptoss_parity.compare import Comparison
from gptoss_parity.measures import ProbeMeasures
from gptoss_parity.report.drawing import (
    BAD,
    CONSEQUENCE,
    MUTED,
    NEAR,
    SAME,
    SERIES_A,
    SERIES_B,
    SERIES_C,
    SMALL,
    STYLE,
    WIDE,
    log_scale,
    new_figure,
    power_of_ten,
    scientific,
    svg_of,
)
from gptoss_parity.routing import FlipKind, LayerRouting, Reach

__all__ = [
    "error_by_position",
    "error_growth",
    "kl_by_position",
    "logits_difference",
    "logits_scatter",
    "margin_histogram",
    "routing_map",
]

_MAX_POINTS = 1200  # of a scatter plot, taken at even steps
_BINS = 40  # of a histogram, at even steps of the logarithm


def error_growth(comparison: Comparison, prefix: str) -> str:
    """Relative L2 along the forward pass, on a log scale, with the limit."""
    layers = sorted({layer.layer for layer in comparison.routing.layers} | set(comparison.reference.layers))
    probes = {probe.name: probe for probe in comparison.probes}
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(*SMALL)
        series = (
            ("residual stream", SERIES_A, "o", _residual_stream(probes, layers)),
            ("router logits", SERIES_B, "s", _layer_series(probes, layers, "router_logits")),
            ("router weights", SERIES_C, "^", _layer_series(probes, layers, "router_weights")),
        )
        values: list[float] = []
        for label, color, marker, points in series:
            clean = _drawable([(x, probe.clean_relative_l2) for x, probe in points])
            every = _drawable([(x, probe.relative_l2) for x, probe in points])
            if every and every != clean:
                axes.plot(*zip(*every, strict=True), color=color, linestyle=(0, (1, 1.5)), linewidth=1)
            if clean:
                axes.plot(*zip(*clean, strict=True), color=color, marker=marker, label=label)
            values += [y for _, y in clean + every]
        depths = np.arange(len(layers) + 1)
        limits = [comparison.tolerances.hidden.at(int(depth)) for depth in depths]
        places = [-1, *(depths[:-1] + 0.2), len(layers) + 0.6]
        axes.plot(places, [limits[0], *limits[1:], limits[-1]], color=BAD, linestyle=(0, (4, 3)), linewidth=1)
        axes.set_xlim(-1, len(layers) + 0.6)
        _label_layers(axes, layers)
        log_scale(axes, values, limits[-1])
        axes.set_ylabel("relative L2")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.03, 1.0), ncol=3, handlelength=1.4, columnspacing=1.2)
        else:
            axes.text(0.5, 0.5, "exactly 0 everywhere", transform=axes.transAxes, ha="center", color=MUTED)
        return svg_of(figure, prefix, "Relative L2 of each probe along the forward pass")


def error_by_position(comparison: Comparison, prefix: str) -> str:
    """Relative L2 of each token's logits, with lines where the sliding window begins to forget and at 4096."""
    logits = next(probe for probe in comparison.probes if probe.name == "logits")
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(*SMALL)
        limit = comparison.tolerances.token.at(len(comparison.reference.layers))
        _by_position(axes, comparison, logits.by_token, limit)
        axes.set_ylabel("relative L2 of the logits")
        return svg_of(figure, prefix, "Relative L2 of the logits at each position")


def kl_by_position(comparison: Comparison, prefix: str) -> str:
    """KL of each token's distribution; dotted the same with the same experts, where a side was replayed."""
    measures = next(probe.logits for probe in comparison.probes if probe.logits is not None)
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(*SMALL)
        limit = None if comparison.check is None else comparison.check.max_kl_div
        if comparison.split is not None:
            computed = np.where(comparison.split.computed > 0, comparison.split.computed, np.nan)
            axes.plot(np.arange(len(computed)), computed, color=SERIES_B, linewidth=1, linestyle=(0, (1, 1.5)))
        _by_position(axes, comparison, measures.kl, limit)
        axes.set_ylabel("KL(reference ‖ candidate), nats")
        return svg_of(figure, prefix, "KL of the next-token distributions at each position")


def margin_histogram(comparison: Comparison, prefix: str) -> str:
    """How close each routing decision was, flipped ones against the others, on log scales."""
    layers = comparison.routing.layers
    margins = np.concatenate([layer.margin for layer in layers])
    flipped = np.concatenate([layer.is_flipped for layer in layers])
    usable = np.isfinite(margins) & (margins > 0)
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(*SMALL)
        if not usable.any():
            axes.text(0.5, 0.5, "no margins", transform=axes.transAxes, ha="center", color=MUTED)
            return svg_of(figure, prefix, "Router margins")
        low, high = np.log10(margins[usable].min()), np.log10(margins[usable].max())
        edges = np.logspace(low - 0.01, high + 0.01, _BINS)
        for selected, color, label in ((~flipped, SAME, "same experts"), (flipped, BAD, "flipped")):
            values = margins[usable & selected]
            if values.size:
                axes.hist(values, bins=list(edges), color=color, label=f"{label}: {values.size}")
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(0, None)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(LogLocator(base=10, numticks=6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xlabel("margin of the reference's router")
        axes.set_ylabel("decisions")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.03, 1.0), ncol=2, handlelength=1.2, columnspacing=1.2)
        return svg_of(figure, prefix, "Histogram of router margins, flipped decisions against the others")


def _by_position(axes: Axes, comparison: Comparison, values: np.ndarray, limit: float | None) -> None:
    """A number a token, marked where flips reach, with the lines that positions are looked at for."""
    shown = np.where((values > 0) & (values < np.inf), values, np.nan)
    axes.plot(np.arange(len(shown)), shown, color=SERIES_A, linewidth=1, marker="o", markersize=2)
    reach = comparison.routing.reach_at(None, "logits", len(shown))
    for kind, color in ((Reach.REACHED, CONSEQUENCE), (Reach.FLIPPED, NEAR)):
        tokens = np.flatnonzero(reach == kind)
        axes.plot(tokens, shown[tokens], color=color, linestyle="none", marker="o", markersize=3.5)
    finite = shown[np.isfinite(shown)].tolist()
    if limit:
        axes.axhline(limit, color=BAD, linestyle=(0, (4, 3)), linewidth=1)
    if finite or limit:
        log_scale(axes, finite, limit or max(finite))
    else:
        axes.text(0.5, 0.5, "exactly 0 everywhere", transform=axes.transAxes, ha="center", color=MUTED)
    config = comparison.reference.metadata.config
    marks = {} if config is None else {config.sliding_window: f"window {config.sliding_window}"}
    for position, label in (marks | {ORIGINAL_CONTEXT: str(ORIGINAL_CONTEXT)}).items():
        if position < len(shown):
            axes.axvline(position, color=MUTED, linestyle=(0, (1, 2)), linewidth=1)
            axes.annotate(
                label, (position, 0.02), xycoords=("data", "axes fraction"),
                xytext=(4, 0), textcoords="offset points", color=MUTED, fontsize=8,
            )  # fmt: skip
    margin = 0.02 * len(shown)
    axes.set_xlim(-margin, len(shown) - 1 + margin)  # tokens without a point on a log scale are there too
    axes.set_xlabel("position")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def logits_scatter(comparison: Comparison, prefix: str) -> str:
    """Candidate's against reference's logits; agreement lies on the diagonal."""
    expected, found = _logits_sample(comparison)
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(*SMALL)
        ends = [float(expected.min()), float(expected.max())]
        axes.plot(ends, ends, color=MUTED, linewidth=0.8)
        axes.plot(expected, found, linestyle="none", marker=".", color=SERIES_A, alpha=0.6)
        axes.set_xlabel("reference logit")
        axes.set_ylabel("candidate logit")
        return svg_of(figure, prefix, "Candidate's against reference's logits")


def logits_difference(comparison: Comparison, prefix: str) -> str:
    """Difference of the logits over the reference's, where the diagonal would hide it."""
    expected, found = _logits_sample(comparison)
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(*SMALL)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.plot(expected, found - expected, linestyle="none", marker=".", color=SERIES_A, alpha=0.6)
        axes.set_xlabel("reference logit")
        axes.set_ylabel("candidate − reference")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: scientific(value)))
        return svg_of(figure, prefix, "Difference of the logits")


def routing_map(comparison: Comparison, prefix: str) -> str:
    """Layer × token: where the experts agree, and why where they do not."""
    layers = comparison.routing.layers
    tokens = len(comparison.tokens)
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(WIDE, 64 + 14 * max(4, len(layers)))
        for row, layer in enumerate(layers):
            axes.broken_barh([(-0.5, tokens)], (row - 0.42, 0.84), facecolors=SAME, linewidth=0)
            for kind, color in ((FlipKind.NEAR_TIE, NEAR), (FlipKind.CONSEQUENCE, CONSEQUENCE), (FlipKind.REAL, BAD)):
                spans = _spans(_flipped_tokens(layer, kind))
                axes.broken_barh(spans, (row - 0.42, 0.84), facecolors=color, linewidth=0)
        axes.set_xlim(-0.5, tokens - 0.5)
        axes.set_ylim(len(layers) - 0.5, -0.5)
        places, labels = _thinned([layer.layer for layer in layers])
        axes.set_yticks(places, [str(label) for label in labels])
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.set_xlabel("token")
        axes.set_ylabel("layer")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return svg_of(figure, prefix, "Agreement of the chosen experts by layer and token")


def _residual_stream(probes: dict[str, ProbeMeasures], layers: Sequence[int]) -> list[tuple[float, ProbeMeasures]]:
    """Embedding before the first tick, each layer's two residual probes around its own, then the last two."""
    places = [("embedding", -0.6)]
    for tick, layer in enumerate(layers):
        places += [(f"layers.{layer}.attention_residual", tick - 0.2), (f"layers.{layer}.output", tick + 0.2)]
    places += [("final_norm", len(layers) - 0.2), ("logits", len(layers) + 0.2)]
    return [(x, probes[name]) for name, x in places if name in probes]


def _layer_series(
    probes: dict[str, ProbeMeasures], layers: Sequence[int], kind: str
) -> list[tuple[float, ProbeMeasures]]:
    names = [(tick, f"layers.{layer}.{kind}") for tick, layer in enumerate(layers)]
    return [(float(tick), probes[name]) for tick, name in names if name in probes]


def _drawable(points: Iterable[tuple[float, float | None]]) -> list[tuple[float, float]]:
    """Without what has no place on a log scale: exactly 0, infinite, unknown."""
    return [(x, y) for x, y in points if y is not None and 0 < y < np.inf]


def _label_layers(axes: Axes, layers: Sequence[int]) -> None:
    places, labels = _thinned(layers)
    axes.set_xticks([*places, len(layers)], [*(str(label) for label in labels), "out"])
    axes.set_xlabel("layer")
    axes.tick_params(axis="x", length=0)


def _thinned(layers: Sequence[int]) -> tuple[list[int], list[int]]:
    """At most a dozen ticks and the layers they stand for."""
    step = -(-len(layers) // 12) or 1
    places = list(range(0, len(layers), step))
    return places, [layers[place] for place in places]


def _logits_sample(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """The same evenly spaced finite elements of both sides' logits, as float64."""
    expected, found = (trace["logits"].reshape(-1) for trace in (comparison.reference, comparison.candidate))
    step = max(1, expected.size // _MAX_POINTS)
    step += step > 1 and step % 2 == 0  # an odd step walks through all columns sooner
    pair: Any = np.stack([expected[::step], found[::step]]).astype(np.float64)
    pair = pair[:, np.isfinite(pair).all(axis=0)]
    return (pair[0], pair[1]) if pair.size else (np.zeros(1), np.zeros(1))


def _flipped_tokens(layer: LayerRouting, kind: FlipKind) -> list[int]:
    return [
        flip.token for flip in layer.flips if flip.kind is kind and (not flip.is_order_only or kind is FlipKind.REAL)
    ]


def _spans(tokens: Sequence[int]) -> list[tuple[float, float]]:
    """Runs of neighbouring tokens as (left edge, width)."""
    spans: list[tuple[float, float]] = []
    for token in tokens:
        if spans and spans[-1][0] + spans[-1][1] == token - 0.5:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1)
        else:
            spans.append((token - 0.5, 1.0))
    return spans
