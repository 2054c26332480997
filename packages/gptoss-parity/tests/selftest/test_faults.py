"""The self-test's checkpoint: every fault must be able to matter."""

import numpy as np
from gptoss_parity.selftest import FAULTS, selftest_checkpoint
from gptoss_parity.selftest.faults import FAULTY_LAYER
from gptoss_parity.sources.plain import PlainSource


def test_hidden_and_ffn_are_equal_so_that_a_transposed_matrix_fits():
    config = selftest_checkpoint().config
    assert config.hidden_size == config.intermediate_size


def test_flipped_bit_changes_one_value_of_one_expert():
    sound = selftest_checkpoint()
    (fault,) = (fault for fault in FAULTS if "bit" in fault.name)
    faulty = fault.model(sound).checkpoint
    name = f"model.layers.{FAULTY_LAYER}.mlp.experts.down_proj"
    differing = np.argwhere(sound.read(name).decode() != faulty.read(name).decode())
    assert len(differing) == 1
    assert differing[0, 0] == 0
    before, after = (c.read(name).decode()[tuple(differing[0])] for c in (sound, faulty))
    assert after == -before
    assert np.array_equal(sound.read(name, (1,)).blocks, faulty.read(name, (1,)).blocks)


def test_names_are_told_apart_and_places_are_probes():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    probes = PlainSource().record(selftest_checkpoint(), [1, 2, 3], block_debug=True)
    assert {fault.where for fault in FAULTS} <= set(probes)
