"""The distribution of sample lengths as inline SVG, coloured by the page's own CSS variables.

It is drawn by matplotlib in stand-in colours that are then replaced by `var(--…)`, so that one figure serves
light and dark. Text stays text, and equal lengths give equal bytes.
"""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["length_histogram"]

# Stand-in colour → the page's variable.
INK, MUTED, GRID, BAR, LIMIT = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", BAR: "bar", LIMIT: "limit"}
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "gptoss-train",
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": "none",
}
_POINTS_PER_INCH = 72
_WIDTH, _HEIGHT = 520, 190  # points
_MOST_BARS = 48


def length_histogram(lengths: Sequence[int], sequence_length: int) -> str:
    """How many samples have how many tokens, with a line where a row ends.

    Args:
        lengths: Tokens of each sample, at most `sequence_length`.
        sequence_length: Tokens in a row.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH / _POINTS_PER_INCH, _HEIGHT / _POINTS_PER_INCH), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        width = -(-sequence_length // _MOST_BARS)
        edges = np.arange(0, sequence_length + width + 1, width) + 0.5  # each bar holds `width` whole numbers
        axes.hist(lengths, bins=edges.tolist(), color=BAR, rwidth=0.86)
        axes.axvline(sequence_length + 0.5, color=LIMIT, linestyle=(0, (4, 3)), linewidth=1)
        axes.set_xlim(0, max(edges[-1], sequence_length + 1))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlabel("tokens of a sample")
        axes.set_ylabel("samples")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(buffer.getvalue(), f"Lengths of {len(lengths)} samples, in rows of {sequence_length} tokens")


def _inline(svg: str, description: str) -> str:
    """The figure as an element that takes size, font and colours from the page."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    head, _, body = svg.partition(">")
    head = re.sub(r'\s(width|height|version)="[^"]*"', "", head)
    body = re.sub(r"'[^']*'(, '[^']*')*, sans-serif|'sans-serif'", "inherit", body)
    body = re.sub(r"font: (\d[\d.]*px) [^;\"]+", r"font-size: \1", body)
    for color, variable in _VARIABLES.items():
        body = body.replace(color, f"var(--{variable})")
    return f'{head} role="img" aria-label="{description}">{body}'
