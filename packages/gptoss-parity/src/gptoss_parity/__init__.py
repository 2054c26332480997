"""Measures one GPT-OSS implementation against another."""

from gptoss_parity.sources import DTYPES, SOURCES, Dtype, GoldenSource, Source, make_source
from gptoss_parity.trace import Trace, TraceMetadata, load_trace, save_trace

__all__ = [
    "DTYPES",
    "SOURCES",
    "Dtype",
    "GoldenSource",
    "Source",
    "Trace",
    "TraceMetadata",
    "load_trace",
    "make_source",
    "save_trace",
]
