"""The figures of a comparison as inline SVG, coloured by the page's own CSS variables.

Each is drawn by matplotlib in stand-in colours that are then replaced by `var(--…)`, so that one
figure serves light and dark. Text stays text. Nothing depends on time or on a random number.
"""

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from gptoss_parity.compare import Comparison
from gptoss_parity.measures import ProbeMeasures
from gptoss_parity.routing import FlipKind, LayerRouting, Reach

__all__ = ["error_by_position", "error_growth", "logits_difference", "logits_scatter", "routing_map"]

# Stand-in colour → the page's variable.
INK, MUTED, GRID, PANEL = "#010101", "#020202", "#030303", "#040404"
SERIES_A, SERIES_B, SERIES_C = "#050501", "#050502", "#050503"
NEAR, CONSEQUENCE, BAD, SAME = "#060601", "#060602", "#060603", "#060604"
_VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", PANEL: "panel",
    SERIES_A: "series-a", SERIES_B: "series-b", SERIES_C: "series-c",
    NEAR: "near", CONSEQUENCE: "consequence", BAD: "bad", SAME: "same",
}  # fmt: skip
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "gptoss-parity",
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.labelcolor": MUTED,
    "legend.fontsize": 8,
}
_POINTS_PER_INCH = 72
_SMALL = (360, 250)  # points: readable on a phone at its own size
_WIDE = 760
_MAX_POINTS = 1200  # of a scatter plot, taken at even steps
_DOT_SIZE = 2.2  # points
_POINTS = re.compile(r'(?:<use [^>]*x="[^"]+" y="[^"]+" [^>]*/>\s*){100,}')
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def error_growth(comparison: Comparison, prefix: str) -> str:
    """Relative L2 along the forward pass, on a log scale, with the limit."""
    layers = sorted({layer.layer for layer in comparison.routing.layers} | set(comparison.reference.layers))
    probes = {probe.name: probe for probe in comparison.probes}
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(*_SMALL)
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
        _log_scale(axes, values, limits[-1])
        axes.set_ylabel("relative L2")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.03, 1.0), ncol=3, handlelength=1.4, columnspacing=1.2)
        else:
            axes.text(0.5, 0.5, "exactly 0 everywhere", transform=axes.transAxes, ha="center", color=MUTED)
        return _svg(figure, prefix, "Relative L2 of each probe along the forward pass")


def error_by_position(comparison: Comparison, prefix: str) -> str:
    """Relative L2 of each token's logits, with a line where the sliding window begins to forget."""
    logits = next(probe for probe in comparison.probes if probe.name == "logits")
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(*_SMALL)
        errors = np.where((logits.by_token > 0) & (logits.by_token < np.inf), logits.by_token, np.nan)
        axes.plot(np.arange(len(errors)), errors, color=SERIES_A, linewidth=1, marker="o", markersize=2)
        reach = comparison.routing.reach_at(None, "logits", len(errors))
        for kind, color in ((Reach.REACHED, CONSEQUENCE), (Reach.FLIPPED, NEAR)):
            tokens = np.flatnonzero(reach == kind)
            axes.plot(tokens, errors[tokens], color=color, linestyle="none", marker="o", markersize=3.5)
        limit = comparison.tolerances.token.at(len(comparison.reference.layers))
        _log_scale(axes, errors[np.isfinite(errors)].tolist(), limit)
        axes.axhline(limit, color=BAD, linestyle=(0, (4, 3)), linewidth=1)
        config = comparison.reference.metadata.config
        if config is not None and config.sliding_window < len(errors):
            axes.axvline(config.sliding_window, color=MUTED, linestyle=(0, (1, 2)), linewidth=1)
            axes.annotate(
                f"window {config.sliding_window}", (config.sliding_window, 0.02), xycoords=("data", "axes fraction"),
                xytext=(4, 0), textcoords="offset points", color=MUTED, fontsize=8,
            )  # fmt: skip
        axes.set_xlabel("position")
        axes.set_ylabel("relative L2 of the logits")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return _svg(figure, prefix, "Relative L2 of the logits at each position")


def logits_scatter(comparison: Comparison, prefix: str) -> str:
    """Candidate's against reference's logits; agreement lies on the diagonal."""
    expected, found = _logits_sample(comparison)
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(*_SMALL)
        ends = [float(expected.min()), float(expected.max())]
        axes.plot(ends, ends, color=MUTED, linewidth=0.8)
        axes.plot(expected, found, linestyle="none", marker=".", color=SERIES_A, alpha=0.6)
        axes.set_xlabel("reference logit")
        axes.set_ylabel("candidate logit")
        return _svg(figure, prefix, "Candidate's against reference's logits")


def logits_difference(comparison: Comparison, prefix: str) -> str:
    """Difference of the logits over the reference's, where the diagonal would hide it."""
    expected, found = _logits_sample(comparison)
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(*_SMALL)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.plot(expected, found - expected, linestyle="none", marker=".", color=SERIES_A, alpha=0.6)
        axes.set_xlabel("reference logit")
        axes.set_ylabel("candidate − reference")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _scientific(value)))
        return _svg(figure, prefix, "Difference of the logits")


def routing_map(comparison: Comparison, prefix: str) -> str:
    """Layer × token: where the experts agree, and why where they do not."""
    layers = comparison.routing.layers
    tokens = len(comparison.tokens)
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(_WIDE, 64 + 14 * max(4, len(layers)))
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
        return _svg(figure, prefix, "Agreement of the chosen experts by layer and token")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def _svg(figure: Figure, prefix: str, description: str) -> str:
    """The figure as an SVG element that may stand in a page beside others.

    `prefix` makes its ids unique there.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, _, body = svg.partition(">")
    head = re.sub(r'\s(width|height|version)="[^"]*"', "", head)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", body)
    body = re.sub(r"'[^']*'(, '[^']*')*, sans-serif|'sans-serif'", "inherit", body)
    body = re.sub(r"font: (\d[\d.]*px) [^;\"]+", r"font-size: \1", body)
    body = _POINTS.sub(_as_one_path, body)
    body = re.sub(r"(\d\.\d\d)\d+", r"\1", body)  # hundredths of a point are enough
    for color, variable in _VARIABLES.items():
        body = body.replace(color, f"var(--{variable})")
    return f'{head} role="img" aria-label="{description}">{body}'


def _as_one_path(points: re.Match[str]) -> str:
    """A cloud of markers as one path of round dots, a tenth of the size."""
    places = re.findall(r'x="([^"]+)" y="([^"]+)"', points[0])
    opacity = re.search(r"fill-opacity: ([\d.]+)", points[0])
    dots = "".join(f"M{float(x):.1f} {float(y):.1f}h0" for x, y in places)
    return (
        f'<path d="{dots}" style="fill: none; stroke: {SERIES_A}; stroke-width: {_DOT_SIZE}; '
        f'stroke-linecap: round; stroke-opacity: {opacity[1] if opacity else 1}"/>'
    )


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


def _log_scale(axes: Axes, values: Iterable[float], limit: float) -> None:
    positive = [value for value in values if np.isfinite(value) and value > 0]
    low, high = min([*positive, limit]), max([*positive, limit])
    axes.set_yscale("log")
    axes.set_ylim(10 ** np.floor(np.log10(low) - 0.3), 10 ** np.ceil(np.log10(high) + 0.1))
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=7))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _power_of_ten(value)))
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _power_of_ten(value: float) -> str:
    return "10" + str(round(np.log10(value))).translate(_SUPERSCRIPTS)


def _scientific(value: float) -> str:
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa.replace('-', '−')}·10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


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
