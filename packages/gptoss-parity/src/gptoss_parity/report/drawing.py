"""Drawing for a page: matplotlib in stand-in colours that become the page's own, text as text, nothing by chance."""

import io
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

__all__ = [
    "BAD",
    "CONSEQUENCE",
    "MUTED",
    "NEAR",
    "SAME",
    "SERIES_A",
    "SERIES_B",
    "SERIES_C",
    "SMALL",
    "STYLE",
    "WIDE",
    "log_scale",
    "new_figure",
    "power_of_ten",
    "scientific",
    "svg_of",
]

# Stand-in colour → the page's variable.
INK, MUTED, GRID, PANEL = "#010101", "#020202", "#030303", "#040404"
SERIES_A, SERIES_B, SERIES_C = "#050501", "#050502", "#050503"
NEAR, CONSEQUENCE, BAD, SAME = "#060601", "#060602", "#060603", "#060604"
_VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", PANEL: "panel",
    SERIES_A: "series-a", SERIES_B: "series-b", SERIES_C: "series-c",
    NEAR: "near", CONSEQUENCE: "consequence", BAD: "bad", SAME: "same",
}  # fmt: skip
STYLE: dict[Any, Any] = {
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
SMALL = (360, 250)  # points: readable on a phone at its own size
WIDE = 760
_DOT_SIZE = 2.2  # points
_POINTS = re.compile(r'(?:<use [^>]*x="[^"]+" y="[^"]+" [^>]*/>\s*){100,}')
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one plot, sized in points."""
    figure = Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def svg_of(figure: Figure, prefix: str, description: str) -> str:
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


def log_scale(axes: Axes, values: Iterable[float], limit: float) -> None:
    """A vertical axis of whole powers of ten that holds the values and the limit."""
    positive = [value for value in values if np.isfinite(value) and value > 0]
    low, high = min([*positive, limit]), max([*positive, limit])
    axes.set_yscale("log")
    axes.set_ylim(10 ** np.floor(np.log10(low) - 0.3), 10 ** np.ceil(np.log10(high) + 0.1))
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=7))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def power_of_ten(value: float) -> str:
    """`10⁻³`."""
    return "10" + str(round(np.log10(value))).translate(_SUPERSCRIPTS)


def scientific(value: float) -> str:
    """`2·10⁻³`."""
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa.replace('-', '−')}·10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
