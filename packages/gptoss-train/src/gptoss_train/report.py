"""The report of a run: one HTML file with plots of its metrics, that needs nothing beside it."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptoss_weights.durable_files import write_durably
from markupsafe import Markup, escape

from gptoss_train.data import DataStatistics
from gptoss_train.expert_course import expert_course
from gptoss_train.metrics import read_metrics
from gptoss_train.sample_counts import HELD_OUT

__all__ = ["write_report"]

REPORT_FILE = "report.html"
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "img{max-width:100%}table{border-collapse:collapse}td,th{padding:.2rem 1rem .2rem 0;text-align:left}"
    "pre{background:#f4f4f4;padding:1rem;overflow:auto}"
)


def write_report(folder: Path, *, title: str) -> Path | None:
    """Writes `report.html` from the metrics of a run.

    Args:
        folder: The run's, with `metrics.jsonl`.
        title: Of the page.

    Returns:
        Its path; None where there is no step to report.
    """
    lines = read_metrics(folder / "metrics.jsonl")
    if not lines:
        return None
    resumed = _resumed_steps(folder / "events.jsonl", last=lines[-1]["step"])
    plots = [
        ("Loss", _plot_losses(lines, resumed)),
        ("Norm of the gradients", _plot_norms(lines, resumed)),
        ("Share of the assignments of each expert at the last step, by layer", _plot_experts(lines)),
        (
            "Share of the assignments of the busiest and of the idlest expert over the steps, by layer",
            _plot_course(lines, resumed),
        ),
        ("Learning rate, and tokens a second", _plot_rates(lines, resumed)),
    ]
    last = lines[-1]
    evaluated = next((line for line in lines[::-1] if "evaluation_loss" in line), None)
    facts = {
        "steps": last["step"],
        "loss": _shown(last["loss"]),
        "smallest loss": _shown(min((line["loss"] for line in lines if line["loss"] is not None), default=None)),
        "held-out loss": _shown(None if evaluated is None else evaluated["evaluation_loss"]),
        "held-out samples": "–" if evaluated is None else _samples(evaluated, HELD_OUT),
        "tokens": sum(line["tokens"] for line in lines),
        "samples": _samples(last),
        "steps left out": last["skipped_steps"],
        "memory": f"{last['memory_bytes'] / 1e9:.2f} GB",
        "went on after": ", ".join(map(str, resumed)) or "never stopped",
    }
    config = folder / "config.yaml"
    page = _page(title, facts, plots, config.read_text(encoding="utf-8") if config.exists() else "")
    path = folder / REPORT_FILE
    write_durably(path, page.encode())
    return path


def _page(title: str, facts: Mapping[str, object], plots: Sequence[tuple[str, bytes]], config: str) -> str:
    rows = Markup("").join(Markup("<tr><th>{}</th><td>{}</td></tr>").format(*fact) for fact in facts.items())
    images = Markup("").join(
        Markup('<h2>{}</h2><img alt="{}" src="data:image/svg+xml;base64,{}">').format(
            name, name, base64.b64encode(image).decode()
        )
        for name, image in plots
    )
    return str(
        Markup(
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
            "<h1>{title}</h1><table>{rows}</table>{images}<h2>Config</h2><pre>{config}</pre></html>\n"
        ).format(title=title, style=Markup(STYLE), rows=rows, images=images, config=escape(config))
    )


def _plot_losses(lines: Sequence[Mapping[str, Any]], resumed: Sequence[int]) -> bytes:
    figure, axes = _figure()
    steps = [line["step"] for line in lines]
    axes.plot(steps, _values(lines, "loss"), label="loss", linewidth=1)
    held_out = [line for line in lines if line.get("evaluation_loss") is not None]
    if held_out:
        points = [line["step"] for line in held_out], [line["evaluation_loss"] for line in held_out]
        axes.plot(*points, "o-", label="held out", markersize=3)
    return _finished(figure, axes, resumed)


def _plot_norms(lines: Sequence[Mapping[str, Any]], resumed: Sequence[int]) -> bytes:
    figure, axes = _figure()
    steps = [line["step"] for line in lines]
    axes.plot(steps, _values(lines, "grad_norm"), label="all", linewidth=1.5, color="black")
    for group in lines[-1]["grad_norms"]:
        values = [_or_nan(line["grad_norms"].get(group)) for line in lines]
        axes.plot(steps, values, label=group, linewidth=0.8)
    axes.set_yscale("log", nonpositive="mask")
    return _finished(figure, axes, resumed)


def _plot_experts(lines: Sequence[Mapping[str, Any]]) -> bytes:
    figure, axes = _figure()
    _draw_layers(figure, axes, lines[-1]["expert_load"])
    axes.set_xlabel("expert")
    return _as_svg(figure)


def _plot_course(lines: Sequence[Mapping[str, Any]], resumed: Sequence[int]) -> bytes:
    course = expert_course(lines)
    figure, both = _figure(2)
    for axes, words, shares in zip(both, ("busiest", "idlest"), (course.largest, course.smallest), strict=True):
        _draw_layers(figure, axes, shares, extent=(course.first - 0.5, course.last + 0.5, len(shares) - 0.5, -0.5))
        axes.set_title(words, fontsize="small")
        axes.set_xlabel("step")
        _mark(axes, resumed, color="white")
        if resumed:
            axes.legend(fontsize="small", facecolor="gray")
    return _as_svg(figure)


def _draw_layers(figure: Any, axes: Any, shares: Any, **options: Any) -> None:
    """Shares [L, columns] as colours, with their scale."""
    image = axes.imshow(shares, aspect="auto", vmin=0, cmap="viridis", interpolation="nearest", **options)
    axes.locator_params(integer=True)
    axes.set_ylabel("layer")
    figure.colorbar(image)


def _plot_rates(lines: Sequence[Mapping[str, Any]], resumed: Sequence[int]) -> bytes:
    figure, axes = _figure()
    steps = [line["step"] for line in lines]
    axes.plot(steps, _values(lines, "learning_rate"), label="learning rate", linewidth=1)
    right = axes.twinx()
    right.plot(steps, _values(lines, "tokens_per_second"), color="tab:orange", linewidth=0.6)
    right.set_ylabel("tokens a second", color="tab:orange")
    return _finished(figure, axes, resumed)


def _figure(rows: int = 1) -> tuple[Any, Any]:
    """A figure, and its axes: one, or an array of several below each other."""
    from matplotlib.figure import Figure  # takes half a second; and no pyplot, which wants a display

    figure = Figure(figsize=(9, 3.2 * rows), layout="constrained")
    return figure, figure.subplots(rows)


def _finished(figure: Any, axes: Any, resumed: Sequence[int]) -> bytes:
    _mark(axes, resumed, color="gray")
    axes.set_xlabel("step")
    axes.legend(fontsize="small", ncols=4)
    axes.grid(alpha=0.3)
    return _as_svg(figure)


def _mark(axes: Any, resumed: Sequence[int], *, color: str) -> None:
    for place, step in enumerate(resumed):
        label = "went on" if place == 0 else None
        axes.axvline(step, color=color, linestyle=":", linewidth=0.8, label=label)


def _as_svg(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _values(lines: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [_or_nan(line[key]) for line in lines]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _samples(line: Mapping[str, Any], prefix: str = "") -> str:
    samples = f"{prefix}samples"
    if samples not in line:
        return "not counted"
    counted = DataStatistics(
        cut=line[f"{samples}_cut"], dropped=line[f"{samples}_dropped"], without_loss=line[f"{samples}_without_loss"]
    )
    return f"{line[samples]}; {counted.losses()}"


def _resumed_steps(path: Path, *, last: int) -> list[int]:
    """After which steps the run went on."""
    if not path.exists():
        return []
    steps = set()
    for text in path.read_bytes().splitlines():
        try:
            event = json.loads(text)
        except ValueError:  # it was killed as it wrote
            continue
        if isinstance(event, dict) and event.get("event") == "resume" and event["step"] <= last:
            steps.add(event["step"])
    return sorted(steps)
