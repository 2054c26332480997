import dataclasses

import numpy as np
from gptoss_parity import Trace, TraceMetadata, compare
from gptoss_parity.report import comparison_table
from gptoss_weights import probe_specs
from gptoss_weights.testing import tiny_config


def test_table_has_a_row_a_probe_and_a_share_a_layer(sound, trace):
    table = comparison_table(sound.comparisons)
    rows = [line.split()[0] for line in table.splitlines()[2:] if line]
    assert rows[: len(sound.comparisons[0].probes)] == [n for n in trace if not n.endswith("router_indices")]
    assert table.count("0: 100 %  1: 100 %") == 2
    assert "✗" not in table


def test_what_fails_is_marked_and_what_is_missing_named(broken, trace):
    pair = [compare(trace, trace), *broken.comparisons]
    rows = {line.split()[0]: line for line in comparison_table(pair).splitlines() if line}
    assert "missing" in rows["embedding"]
    assert rows["layers.1.output"].endswith("nan ✗")
    assert "✗" not in rows["layers.0.output"]


def test_one_flip_is_one_flip(broken):
    assert "  1 real flip" in comparison_table(broken.comparisons).splitlines()


def test_deep_models_fold_into_a_row_a_kind():
    config = tiny_config(num_hidden_layers=13)
    arrays = {
        name: np.zeros(spec.shape, np.int32 if spec.is_integer else np.float32)
        for name, spec in probe_specs(config, 3).items()
    }
    del arrays["tokens"]
    reference = Trace(np.arange(3), arrays, TraceMetadata(source="x", dtype="float32", config=config))
    worse = dataclasses.replace(reference, arrays=arrays | {"layers.7.output": arrays["layers.7.output"] + 2})
    table = comparison_table([compare(reference, worse)])
    (row,) = [line for line in table.splitlines() if line.startswith("layers.*.output")]
    assert "2.0e+00" in row
    assert "layers.7" not in table


def test_share_that_is_not_whole_never_reads_as_whole(trace):
    tokens = np.zeros(5000, int)
    logits = np.zeros((5000, 2), np.float32)
    other = logits.copy()
    other[17, 1] = 1
    metadata = TraceMetadata(source="x", dtype="float32")
    table = comparison_table(
        [compare(Trace(tokens, {"logits": logits}, metadata), Trace(tokens, {"logits": other}, metadata))]
    )
    assert "99.9 %" in table
