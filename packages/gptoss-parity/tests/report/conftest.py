import numpy as np
import pytest
from gptoss_parity import Trace, TraceMetadata, compare
from gptoss_parity.report import Continuation, Report


@pytest.fixture(scope="session")
def sound(trace) -> Report:
    continuation = Continuation(prompt="a <b>", tokens={"x": [1, 2], "y": [1, 2]}, texts={"x": "cd", "y": "cd"})
    return Report(title="Two & two", comparisons=[compare(trace, trace)] * 2, continuation=continuation, command="go")


@pytest.fixture(scope="session")
def broken(trace) -> Report:
    """A missing probe, a NaN, a real flip, and markup where a version should be."""
    arrays = {name: array.copy() for name, array in trace.items()}
    del arrays["embedding"]
    arrays["layers.1.output"][3, 4] = np.nan
    for kind in ("router_indices", "router_weights"):
        arrays[f"layers.2.{kind}"][5] = arrays[f"layers.2.{kind}"][5][::-1]
    metadata = TraceMetadata(source="<script>", dtype="float32", versions={"x": "<b>1"}, checkpoint_digest="0" * 64)
    return Report(title="Broken", comparisons=[compare(trace, Trace(trace.tokens, arrays, metadata))])
