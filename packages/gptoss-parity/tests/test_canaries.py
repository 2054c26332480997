import numpy as np
from gptoss_parity import compare
from gptoss_parity.canaries import canary_positions


def test_positions_are_those_where_windows_and_rope_go_wrong():
    assert [position for _, position in canary_positions(5000, 128)] == [0, 127, 128, 129, 4095, 4096, 4097, 4999]


def test_a_position_stands_there_once_with_every_label():
    assert canary_positions(2, 1)[:3] == [("first, W − 1", 0), ("W, last", 1), ("W + 1", 2)]


def test_window_of_one_has_no_position_before_the_first():
    assert min(position for _, position in canary_positions(3, 1)) == 0


def test_comparison_says_which_were_not_reached(trace, config):
    canaries = compare(trace, trace).canaries
    W = config.sliding_window
    assert [c.position for c in canaries if c.is_reached] == [0, W - 1, W, W + 1, len(trace.tokens) - 1]
    assert [c.position for c in canaries if not c.is_reached] == [4095, 4096, 4097]
    assert all(c.argmax_agrees and c.kl == 0 and c.layers_alike == (4, 4) for c in canaries if c.is_reached)


def test_error_at_the_window_shows_at_its_canary_only(trace, edited, config):
    W = config.sliding_window

    def spoil(arrays):
        arrays["layers.2.output"][W] *= 2
        arrays["logits"][W] = np.roll(arrays["logits"][W], 1)

    canaries = {c.position: c for c in compare(trace, edited(spoil)).canaries}
    assert canaries[W].worst_probe in ("layers.2.output", "logits")
    assert canaries[W].argmax_agrees is False
    assert canaries[W].kl > 0
    assert canaries[W - 1].relative_l2 == 0
