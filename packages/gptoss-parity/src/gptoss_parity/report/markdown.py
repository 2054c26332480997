"""The report as Markdown, for a pull request or an issue: verdict, tables of numbers, and how to get them again."""

from collections.abc import Iterator, Sequence

from gptoss_parity.compare import Comparison
from gptoss_parity.report.content import Report
from gptoss_parity.report.numbers import number, percent
from gptoss_parity.report.sentences import finding_sentences
from gptoss_parity.routing import FlipKind

__all__ = ["report_markdown"]

_NAMED_FAILURES = 10


def report_markdown(report: Report) -> str:
    """The whole file."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# {_escaped(report.title)}"
    yield ""
    yield f"**{'✓' if report.passed else '✗'} {report.headline}**: {_escaped(report.verdict)}."
    yield from ("", *(f"- not run: {_escaped(problem.sentence)}" for problem in report.not_run))
    yield from _table(
        (
            "comparison",
            "verdict",
            "logits rel. L2",
            "max abs",
            "max rel",
            "KL mean",
            "KL p95",
            "KL max",
            "argmax",
            "same experts",
        ),
        [_summary_row(comparison) for comparison in report.comparisons],
    )
    for comparison in report.comparisons:
        yield from _section(comparison)
    if report.continuation is not None:
        yield from ("", "## Greedy continuation", "")
        yield from (f"- {source}: {' '.join(map(str, ids))}" for source, ids in report.continuation.tokens.items())
    if report.seed is not None:
        yield from ("", f"Random prompt, seed {report.seed}.")
    if report.command is not None:
        yield from ("", "## Once more", "", "```console", report.command, "```")


def _summary_row(comparison: Comparison) -> list[str]:
    probe = next((probe for probe in comparison.probes if probe.logits is not None), None)
    layers = comparison.routing.layers
    same = percent(sum(float(layer.same_experts.mean()) for layer in layers) / len(layers)) if layers else "–"
    row = [_escaped(comparison.title), "✓" if comparison.passed else "✗"]
    if probe is None or probe.logits is None:
        return [*row, *["–"] * 7, same]
    logits = probe.logits
    return [
        *row,
        number(probe.relative_l2),
        f"{number(probe.max_abs)} at {list(probe.max_abs_index)}",
        f"{number(probe.max_relative)} at {list(probe.max_relative_index)}",
        number(logits.kl_mean),
        number(logits.kl_p95),
        f"{number(logits.kl_max)} at {logits.kl_max_token}",
        percent(logits.argmax_agreement),
        same,
    ]


def _section(comparison: Comparison) -> Iterator[str]:
    yield from ("", f"## {_escaped(comparison.title)}", "")
    for failure in comparison.failures[:_NAMED_FAILURES]:
        yield f"- ✗ `{failure.probe}`: {_escaped(failure.sentence)}"
    if len(comparison.failures) > _NAMED_FAILURES:
        yield f"- … and {len(comparison.failures) - _NAMED_FAILURES} more"
    yield from (f"- {_escaped(warning)}" for warning in comparison.warnings)
    yield from (f"- {_escaped(sentence)}" for sentence in finding_sentences(comparison))
    yield ""
    yield from _table(
        ("position", "why", "logits rel. L2", "KL", "argmax", "layers alike", "worst probe"),
        [
            [
                str(canary.position),
                canary.label,
                number(canary.relative_l2) if canary.is_reached else "not reached",
                number(canary.kl),
                {None: "–", True: "same", False: "differs"}[canary.argmax_agrees],
                "–" if canary.layers_alike is None else f"{canary.layers_alike[0]}/{canary.layers_alike[1]}",
                "–" if canary.worst_probe is None else f"`{canary.worst_probe}` {number(canary.worst_relative_l2)}",
            ]
            for canary in comparison.canaries
        ],
    )
    yield ""
    yield from _table(
        ("layer", "same experts", "same order", "gate weights", "smallest margin", *(kind.value for kind in FlipKind)),
        [
            [
                str(layer.layer),
                percent(float(layer.same_experts.mean())),
                percent(float(layer.same_order.mean())),
                number(layer.weight_difference),
                number(float(layer.margin.min())),
                *(str(sum(flip.kind is kind for flip in layer.flips)) for kind in FlipKind),
            ]
            for layer in comparison.routing.layers
        ],
    )
    for trace, role in ((comparison.reference, "reference"), (comparison.candidate, "candidate")):
        metadata = trace.metadata
        versions = ", ".join(f"{name} {version}" for name, version in sorted(metadata.versions.items()))
        options = ", ".join(f"{name} {value}" for name, value in sorted(metadata.options.items()))
        digest = metadata.checkpoint_digest or "unknown"
        facts = (f"{metadata.source} in {metadata.dtype}", options, f"checkpoint {digest}", versions)
        yield from ("", f"{role}: {_escaped('; '.join(fact for fact in facts if fact))}")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _escaped(text: str) -> str:
    """Text that is no markup of a table or of HTML."""
    return text.replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")
