"""The preview as one HTML page: no script, no network, light and dark by the reader's preference."""

from typing import Any

import jinja2
import numpy as np
from gptoss_weights.text import Tokenizer
from markupsafe import Markup

from gptoss_train.data.samples import Sample
from gptoss_train.preview.content import PreviewContent
from gptoss_train.preview.histogram import length_histogram
from gptoss_train.preview.tokens import shown_tokens

__all__ = ["preview_page"]

MOST_TOKENS = 1500  # of one sample
KINDS = ("system", "developer", "user", "tool", "assistant", "analysis", "commentary", "final", "text")


def preview_page(content: PreviewContent, tokenizer: Tokenizer | None, *, title: str) -> str:
    """The page; equal contents give equal pages."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gptoss_train.preview"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"count": lambda value: f"{value:,}".replace(",", "\N{THIN SPACE}"), "percent": _percent}
    samples = [_sample(sample, tokenizer) for sample in content.samples]
    shown = {token.kind for sample in samples for token in sample["tokens"]}
    return environment.get_template("preview.html").render(
        title=title,
        content=content,
        statistics=content.statistics,
        samples=samples,
        kinds=[kind for kind in KINDS if kind in shown],
        rows=[_strip(row, content.sequence_length) for row in content.rows],
        histogram=Markup(length_histogram(content.lengths, content.sequence_length)),
        longest=max(content.lengths, default=0),
    )


def _sample(sample: Sample, tokenizer: Tokenizer | None) -> dict[str, Any]:
    return {
        "origin": sample.origin,
        "length": len(sample),
        "trained": sample.trained_tokens,
        "tokens": list(shown_tokens(sample, tokenizer, most=MOST_TOKENS)),
        "unshown": max(0, len(sample) - MOST_TOKENS),
    }


def _strip(row: tuple[Sample, ...], sequence_length: int) -> dict[str, Any]:
    """A row as bars: each sample's share of it, and the places in it that are learnt."""
    bars = [
        {
            "width": f"{100 * len(sample) / sequence_length:.3f}",
            "learnt": _learnt_places(sample),
            "note": f"{sample.origin} · {len(sample)} tokens, {sample.trained_tokens} learnt",
        }
        for sample in row
    ]
    return {"bars": bars, "used": sum(map(len, row)) / sequence_length}


def _learnt_places(sample: Sample) -> list[tuple[str, str]]:
    """Where each run of learnt tokens begins and how far it goes, in percent of the sample."""
    edges = np.diff(np.concatenate([[0], sample.weights > 0, [0]]).astype(np.int8))
    scale = 100 / len(sample)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(f"{start * scale:.2f}", f"{(end - start) * scale:.2f}") for start, end in zip(starts, ends, strict=True)]


def _percent(share: float) -> str:
    text = f"{100 * share:.1f}"
    if text == "100.0" and share < 1:
        return "> 99.9 %"
    return f"{text} %" if text != "0.0" or share == 0 else "< 0.1 %"
