"""The report as one HTML page: no script, no network, light and dark by the reader's preference."""

from typing import Any

import jinja2
from markupsafe import Markup

from gptoss_parity.compare import Comparison
from gptoss_parity.measures import ProbeMeasures
from gptoss_parity.probe_names import parse_probe_name
from gptoss_parity.report.content import Report
from gptoss_parity.report.environment import environment as made_on
from gptoss_parity.report.numbers import number, percent
from gptoss_parity.report.plots import (
    error_by_position,
    error_growth,
    kl_by_position,
    logits_difference,
    logits_scatter,
    margin_histogram,
    routing_map,
)
from gptoss_parity.report.sentences import finding_sentences
from gptoss_parity.routing import FlipKind, LayerRouting

__all__ = ["report_page"]

MAX_LISTED_FLIPS = 200
MAX_LISTED_FAILURES = 50
_LAYER_COLUMNS = ("attention_residual", "router_logits", "router_weights", "output")


def report_page(report: Report) -> str:
    """The page; equal reports give equal pages."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gptoss_parity.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": number, "percent": percent}
    sections = [_section(comparison, f"c{place}") for place, comparison in enumerate(report.comparisons)]
    return environment.get_template("report.html").render(report=report, sections=sections, environment=made_on())


def _section(comparison: Comparison, prefix: str) -> dict[str, Any]:
    """What the template shows of one comparison; `prefix` makes its ids unique in the page."""
    probes = {probe.name: probe for probe in comparison.probes}
    config = comparison.reference.metadata.config
    return {
        "comparison": comparison,
        "prefix": prefix,
        "tiles": _tiles(comparison),
        "figures": _figures(comparison, prefix),
        "outer_probes": [probe for probe in comparison.probes if _layer_of(probe) is None],
        "layer_columns": _LAYER_COLUMNS,
        "layers": [_layer_row(layer, comparison, probes) for layer in comparison.reference.layers],
        "window": None if config is None else config.sliding_window,
        "flips": comparison.routing.flips[:MAX_LISTED_FLIPS],
        "unlisted_flips": max(0, len(comparison.routing.flips) - MAX_LISTED_FLIPS),
        "failures": comparison.failures[:MAX_LISTED_FAILURES],
        "findings": list(finding_sentences(comparison)),
        "unlisted_failures": max(0, len(comparison.failures) - MAX_LISTED_FAILURES),
        "provenance": [
            {"role": "Reference", "trace": comparison.reference},
            {"role": "Candidate", "trace": comparison.candidate},
        ],
    }


def _tiles(comparison: Comparison) -> list[dict[str, str]]:
    """The four numbers to look at first."""
    tiles = []
    logits = next((probe for probe in comparison.probes if probe.name == "logits"), None)
    judged = [
        probe
        for probe in comparison.probes
        if not probe.name.endswith(("router_logits", "router_weights")) and probe.clean_relative_l2 is not None
    ]
    if judged:
        worst = max(judged, key=lambda probe: _or_inf(probe.clean_relative_l2) / (probe.limit or 1.0))
        tiles.append(
            {
                "label": "largest relative L2",
                "value": number(worst.clean_relative_l2),
                "note": f"{worst.name}; limit {number(worst.limit)}",
            }
        )
    if logits is not None:
        overlap = percent(logits.top_k_overlap)
        note = (
            f"of {len(comparison.tokens)} tokens; top-{logits.logits.top_k if logits.logits else 0} overlap {overlap}"
        )
        tiles.append({"label": "same likeliest token", "value": percent(logits.argmax_agreement), "note": note})
    layers = comparison.routing.layers
    if layers:
        choices = sum(layer.same_experts.size for layer in layers)
        same = sum(int(layer.same_experts.sum()) for layer in layers)
        note = f"{choices - same} of {choices} choices differ"
        tiles.append({"label": "same experts", "value": percent(same / choices), "note": note})
    if logits is not None:
        token, entry = logits.max_abs_index
        note = f"token {token}, id {entry}"
        tiles.append({"label": "largest logit difference", "value": number(logits.max_abs), "note": note})
    return tiles


def _figures(comparison: Comparison, prefix: str) -> list[dict[str, Any]]:
    """Title, words and SVG of each figure that these traces allow."""
    figures: list[dict[str, Any]] = []

    def add(title: str, words: str, svg: str, *, is_wide: bool = False) -> None:
        figures.append({"title": title, "words": words, "svg": Markup(svg), "is_wide": is_wide})

    if comparison.probes:
        add(
            "Error along the forward pass",
            "Over the tokens that no flip reaches; dotted: over all. Dashed: the limit for hidden states.",
            error_growth(comparison, f"{prefix}-growth"),
        )
    if any(probe.name == "logits" for probe in comparison.probes):
        add(
            "Error by position",
            "Yellow: flipped tokens; violet: those that see one. Dashed: the limit for clean ones. A gap is exactly 0.",
            error_by_position(comparison, f"{prefix}-position"),
        )
        add(
            "KL by position",
            "As beside; dotted orange: with the same experts. Dashed: the largest KL allowed, where one was given.",
            kl_by_position(comparison, f"{prefix}-kl"),
        )
        add(
            "Logits",
            "Both sides' values, evenly sampled.",
            logits_scatter(comparison, f"{prefix}-scatter"),
        )
        add(
            "Difference of the logits",
            "The same sample, diagonal removed.",
            logits_difference(comparison, f"{prefix}-difference"),
        )
    if comparison.routing.layers:
        add(
            "Router margins",
            "How close each decision was in the reference: flips belong to the left.",
            margin_histogram(comparison, f"{prefix}-margins"),
        )
        add("Chosen experts", "", routing_map(comparison, f"{prefix}-routing"), is_wide=True)
    return figures


def _layer_row(layer: int, comparison: Comparison, probes: dict[str, ProbeMeasures]) -> dict[str, Any]:
    routing = next((entry for entry in comparison.routing.layers if entry.layer == layer), None)
    config = comparison.reference.metadata.config
    return {
        "layer": layer,
        "is_sliding": None if config is None else config.is_sliding(layer),
        "probes": [probes.get(f"layers.{layer}.{kind}") for kind in _LAYER_COLUMNS],
        "agreement": None if routing is None else float(routing.same_experts.mean()),
        "weight_difference": None if routing is None else routing.weight_difference,
        "margin": None if routing is None else float(routing.margin.min()),
        "flips": "–" if routing is None else _flips_in_words(routing),
        "has_real_flip": routing is not None and any(flip.kind is FlipKind.REAL for flip in routing.flips),
    }


def _flips_in_words(layer: LayerRouting) -> str:
    counts = {kind: sum(flip.kind is kind for flip in layer.flips) for kind in FlipKind}
    return ", ".join(f"{count} {kind.value}" for kind, count in counts.items() if count) or "none"


def _layer_of(probe: ProbeMeasures) -> int | None:
    parsed = parse_probe_name(probe.name)
    return None if parsed is None else parsed.layer


def _or_inf(value: float | None) -> float:
    return float("inf") if value is None or value != value else value
