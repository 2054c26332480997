"""Measures one GPT-OSS implementation against another.

    reference = load_trace(Path("official.safetensors"))
    candidate = make_source("jax").record(open_checkpoint("gpt-oss-20b"), reference.tokens)
    compare(reference, candidate).raise_if_failed()

Traces, comparing and reports know no framework; each source imports its own when it is made.
"""

from gptoss_parity.compare import Comparison, compare
from gptoss_parity.failures import Failure
from gptoss_parity.logits_check import LogitsCheck
from gptoss_parity.logits_measures import LogitsMeasures
from gptoss_parity.measures import ProbeMeasures, TokenError
from gptoss_parity.routing import Flip, FlipKind, LayerRouting, Reach, Routing
from gptoss_parity.sources import (
    DTYPES,
    SOURCES,
    Dtype,
    GenerativeSource,
    GoldenSource,
    LoadingSource,
    Source,
    make_source,
)
from gptoss_parity.tolerances import BFLOAT16, FLOAT32, Limit, Tolerances, tolerances_for
from gptoss_parity.trace import Trace, TraceMetadata, load_trace, save_trace

__all__ = [
    "BFLOAT16",
    "DTYPES",
    "FLOAT32",
    "SOURCES",
    "Comparison",
    "Dtype",
    "Failure",
    "Flip",
    "FlipKind",
    "GenerativeSource",
    "GoldenSource",
    "LayerRouting",
    "Limit",
    "LoadingSource",
    "LogitsCheck",
    "LogitsMeasures",
    "ProbeMeasures",
    "Reach",
    "Routing",
    "Source",
    "TokenError",
    "Tolerances",
    "Trace",
    "TraceMetadata",
    "compare",
    "load_trace",
    "make_source",
    "save_trace",
    "tolerances_for",
]
