"""The compact table for the terminal: a row a probe, two columns a comparison, then the routing.

Above a dozen layers the rows of one kind of probe are folded into one that shows the worst layer;
the report holds all of them.
"""

from collections.abc import Sequence

from gptoss_parity.compare import Comparison
from gptoss_parity.measures import ProbeMeasures
from gptoss_parity.probe_names import parse_probe_name
from gptoss_parity.report.content import Report
from gptoss_parity.report.sentences import finding_sentences

__all__ = ["comparison_table", "findings"]

MAX_UNFOLDED_LAYERS = 12
_FAIL_MARK = "✗"


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Every comparison's measures side by side; a ✗ marks what is past its limit."""
    return "\n".join([*_probe_table(comparisons), "", *_routing_table(comparisons)])


def findings(report: Report) -> str:
    """What the numbers mean beyond the table, a few lines a comparison; empty where there is nothing to add."""
    lines: list[str] = []
    for comparison in report.comparisons:
        lines += [f"\n{comparison.title}", *(f"  {line}" for line in finding_sentences(comparison))]
    return "\n".join(lines)


def _probe_table(comparisons: Sequence[Comparison]) -> list[str]:
    columns = [_rows(comparison) for comparison in comparisons]
    names = list(dict.fromkeys(name for column in columns for name in column))
    width = max(len(name) for name in ["probe", *names])
    heads = [_head(comparison) for comparison in comparisons]
    lines = [
        " " * width + "".join(f"  {head:>{_CELL}}" for head in heads),
        f"{'probe':<{width}}" + f"  {'max abs':>9}  {'relative L2':>11}  " * len(comparisons),
    ]
    for name in names:
        cells = [column.get(name, f"{'missing':>{_CELL - 2}} {_FAIL_MARK}") for column in columns]
        lines.append(f"{name:<{width}}" + "".join(f"  {cell}" for cell in cells))
    agreements = [_percent(_logits(comparison)) for comparison in comparisons]
    lines.append(f"{'logits argmax agreement':<{width}}" + "".join(f"  {text:>{_CELL - 2}}  " for text in agreements))
    return [line.rstrip() for line in lines]


_CELL = 9 + 2 + 11 + 2  # two numbers and a mark


def _rows(comparison: Comparison) -> dict[str, str]:
    """Row name → its cell, in the order of the forward pass."""
    if len(comparison.reference.layers) <= MAX_UNFOLDED_LAYERS:
        return {probe.name: _cell([probe]) for probe in comparison.probes}
    groups: dict[str, list[ProbeMeasures]] = {}
    for probe in comparison.probes:
        parsed = parse_probe_name(probe.name)
        name = f"layers.*.{parsed.kind}" if parsed is not None and parsed.layer is not None else probe.name
        groups.setdefault(name, []).append(probe)
    return {name: _cell(probes) for name, probes in groups.items()}


def _cell(probes: Sequence[ProbeMeasures]) -> str:
    """The worst of these probes."""
    max_abs = max((probe.max_abs for probe in probes), key=_badness)
    relative_l2 = max((probe.relative_l2 for probe in probes), key=_badness)
    mark = " " if all(probe.passed for probe in probes) else _FAIL_MARK
    return f"{_number(max_abs):>9}  {_number(relative_l2):>11} {mark}"


def _routing_table(comparisons: Sequence[Comparison]) -> list[str]:
    lines = []
    for comparison in comparisons:
        shares = [f"{layer.layer}: {_percent(float(layer.same_experts.mean()))}" for layer in comparison.routing.layers]
        lines.append(f"same experts by layer, {_head(comparison)}: {'  '.join(shares) or 'no routing in both traces'}")
        lines += [
            f"  {count} {kind} {'flip' if count == 1 else 'flips'}" for kind, count in _flip_counts(comparison).items()
        ]
    return lines


def _flip_counts(comparison: Comparison) -> dict[str, int]:
    counts: dict[str, int] = {}
    for flip in comparison.routing.flips:
        counts[flip.kind.value] = counts.get(flip.kind.value, 0) + 1
    return counts


def _head(comparison: Comparison) -> str:
    metadata = comparison.candidate.metadata
    which = "" if comparison.prompt is None else f" #{comparison.prompt}"
    return f"{metadata.source} {metadata.dtype}{which}"


def _logits(comparison: Comparison) -> float | None:
    return next((probe.argmax_agreement for probe in comparison.probes if probe.name == "logits"), None)


def _badness(value: float) -> float:
    return value if value == value else float("inf")  # NaN is worse than any number


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    text = f"{100 * share:.1f}"
    return "100 %" if share == 1 else f"{min(text, '99.9', key=float)} %"
