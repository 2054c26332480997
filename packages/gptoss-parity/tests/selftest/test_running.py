"""Every fault is found where it is; nothing else is."""

import pytest
from gptoss_parity.plain_model import PlainModel
from gptoss_parity.selftest import FAULTS, Fault, run_selftest


@pytest.fixture(scope="module")
def result():
    return run_selftest()


def test_every_fault_is_found_where_it_is(result):
    assert {found.fault.name: found.found for found in result.results} == {fault.name: fault.where for fault in FAULTS}
    assert result.passed
    assert result.verdict == f"all {len(FAULTS)} faults are found where they are, and what is right is exactly itself"


def test_a_source_against_itself_is_exactly_nothing(result):
    assert result.is_exact
    assert all(probe.max_abs == 0 and probe.relative_l2 == 0 for probe in result.sound.probes)


def test_faults_that_the_issue_names_are_there():
    names = " / ".join(fault.name for fault in FAULTS)
    for word in ("window", "no YaRN", "truncated", "sink", "experts swapped", "interleaved", "clamp", "no + 1",
                 "softmax before top-k", "position", "bfloat16", "transposed", "bit"):  # fmt: skip
        assert word in names


def test_fault_that_is_none_fails_the_selftest():
    result = run_selftest(faults=[Fault(name="nothing", where="logits", model=PlainModel)])
    assert not result.passed
    assert result.verdict == "1 of 1 faults are not found where they are, first 'nothing': nothing in place of logits"


def test_fault_found_elsewhere_fails_the_selftest():
    (clamp,) = (fault for fault in FAULTS if fault.name == "no clamp")
    misplaced = Fault(name="no clamp", where="layers.1.activated", model=clamp.model)
    assert "layers.0.activated in place of layers.1.activated" in run_selftest(faults=[misplaced]).verdict
