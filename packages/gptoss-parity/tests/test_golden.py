"""Goldens: small, exact in what they keep, and as strict as a whole trace."""

import dataclasses

import numpy as np
import pytest
from gptoss_parity import FLOAT32, compare
from gptoss_parity.golden import is_golden, load_golden, make_golden, sample_logits, save_golden
from gptoss_parity.golden_check import check_golden
from gptoss_parity.selftest import FAULTS, selftest_checkpoint
from gptoss_parity.sources.plain import PlainSource
from gptoss_parity.tensor_files import read_tensors, write_tensors
from gptoss_parity.trace import Trace, save_trace
from gptoss_weights import CheckpointError

TOKENS = [(7 * token) % 160 for token in range(60)]


@pytest.fixture(scope="module")
def recorded():
    return PlainSource().record(selftest_checkpoint(), TOKENS, block_debug=True)


@pytest.fixture
def golden(recorded, tmp_path):
    save_golden(make_golden(recorded), tmp_path / "a.golden.safetensors")
    return load_golden(tmp_path / "a.golden.safetensors")


def test_golden_is_small_and_keeps_its_provenance(recorded, golden, tmp_path):
    save_trace(recorded, tmp_path / "whole.safetensors")
    size = (tmp_path / "a.golden.safetensors").stat().st_size
    assert size < 0.4 * (tmp_path / "whole.safetensors").stat().st_size
    assert golden.metadata.checkpoint_digest == recorded.metadata.checkpoint_digest
    assert golden.metadata.versions == recorded.metadata.versions
    assert is_golden(tmp_path / "a.golden.safetensors")
    assert not is_golden(tmp_path / "whole.safetensors")


def test_equal_goldens_are_equal_files(recorded, golden, tmp_path):
    save_golden(make_golden(recorded), tmp_path / "b.golden.safetensors")
    save_golden(golden, tmp_path / "c.golden.safetensors")
    first = (tmp_path / "a.golden.safetensors").read_bytes()
    assert first == (tmp_path / "b.golden.safetensors").read_bytes() == (tmp_path / "c.golden.safetensors").read_bytes()


def test_canaries_are_among_its_rows(golden):
    assert {0, 7, 8, 9, 59} <= set(golden.rows.tolist())


def test_trace_agrees_with_its_own_golden_exactly(recorded, golden):
    comparison = check_golden(golden, recorded)
    assert comparison.passed, comparison.verdict
    assert {probe.name for probe in comparison.probes} == {name for name in recorded if "indices" not in name}
    assert all(probe.max_abs == 0 for probe in comparison.probes if probe.name != "logits")
    assert comparison.probes[-1].max_abs < 1e-5  # the log-sum-exp is rounded


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_golden_finds_every_fault_where_it_is(golden, fault):
    faulty = PlainSource(model=fault.model).record(selftest_checkpoint(), TOKENS, block_debug=True)
    assert check_golden(golden, faulty).first_failure.probe == fault.where


def test_bfloat16_golden_holds_a_bfloat16_run_exactly(recorded, tmp_path):
    halved = {name: _halved(array) for name, array in recorded.items()}
    run = dataclasses.replace(
        recorded, arrays=halved, metadata=dataclasses.replace(recorded.metadata, dtype="bfloat16")
    )
    save_golden(make_golden(run), tmp_path / "half.safetensors")
    save_golden(make_golden(recorded), tmp_path / "single.safetensors")
    golden = load_golden(tmp_path / "half.safetensors")
    assert all(probe.max_abs == 0 for probe in check_golden(golden, run).probes if probe.name != "logits")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * (tmp_path / "single.safetensors").stat().st_size


def _halved(array):
    return array if array.dtype != np.float32 else (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def test_logits_kept_are_the_whole_distribution_only_coarser():
    logits = np.random.default_rng(0).normal(size=(3, 20)).astype(np.float32)
    ids = np.argsort(-logits, axis=-1)[:, :5]
    sampled = sample_logits(logits, ids).astype(np.float64)
    assert sampled.shape == (3, 6)
    np.testing.assert_allclose(np.exp(sampled).sum(-1), np.exp(logits.astype(np.float64)).sum(-1), rtol=1e-6)


def test_golden_of_other_tokens_is_refused(golden):
    other = PlainSource().record(selftest_checkpoint(), TOKENS[::-1], block_debug=True)
    with pytest.raises(CheckpointError, match="recorded from other tokens"):
        check_golden(golden, other)


def test_whole_trace_is_no_golden(recorded, tmp_path):
    save_trace(recorded, tmp_path / "whole.safetensors")
    with pytest.raises(CheckpointError, match=r"no golden; expected format 'gptoss-golden/1'"):
        load_golden(tmp_path / "whole.safetensors")


@pytest.mark.parametrize(
    "lost",
    ["router_logits", "router_indices", "layers.1.", "sampled.layers.2.output", "sampled.embedding", "activated"],
)
def test_golden_that_has_lost_a_probe_is_refused(recorded, golden, tmp_path, lost):
    strings, tensors = read_tensors(tmp_path / "a.golden.safetensors")
    write_tensors(tmp_path / "less.safetensors", strings, {n: a for n, a in tensors.items() if lost not in n})
    with pytest.raises(CheckpointError, match=r"lacks a probe that its model has") as caught:
        load_golden(tmp_path / "less.safetensors")
    assert lost.removeprefix("sampled.") in str(caught.value)


def test_golden_without_a_probe_is_refused(golden, tmp_path):
    strings, tensors = read_tensors(tmp_path / "a.golden.safetensors")
    kept = {name: tensors[name] for name in ("tokens", "rows", "token_ids")}
    write_tensors(tmp_path / "none.safetensors", strings | {"partial": "true"}, kept)
    with pytest.raises(CheckpointError, match="holds no probe"):
        load_golden(tmp_path / "none.safetensors")


def test_golden_of_a_source_that_knows_logits_only_is_one(recorded, tmp_path):
    metadata = dataclasses.replace(recorded.metadata, is_partial=True)
    save_golden(
        make_golden(Trace(recorded.tokens, {"logits": recorded["logits"]}, metadata)), tmp_path / "l.safetensors"
    )
    comparison = check_golden(load_golden(tmp_path / "l.safetensors"), recorded)
    assert comparison.passed, comparison.verdict
    assert [probe.name for probe in comparison.probes] == ["logits"]
    assert comparison.warnings == ("the golden (numpy) holds logits only; nothing else could be compared",)


def test_block_debug_probes_are_judged_by_limits_of_their_own(recorded):
    arrays = {name: array.copy() for name, array in recorded.items()}
    arrays["layers.1.key"] *= np.float32(1 + 4e-6)
    assert compare(recorded, dataclasses.replace(recorded, arrays=arrays)).passed
    arrays["layers.1.key"] *= np.float32(1 + 4e-6)
    failure = compare(recorded, dataclasses.replace(recorded, arrays=arrays)).first_failure
    assert (failure.probe, failure.limit) == ("layers.1.key", FLOAT32.inner.value)
