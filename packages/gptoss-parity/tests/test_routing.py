import dataclasses

import numpy as np
import pytest
from gptoss_parity import BFLOAT16, FLOAT32, FlipKind, Reach, Trace, TraceMetadata
from gptoss_parity.routing import compare_routing
from gptoss_weights.testing import tiny_config

WINDOW = 4
TOKENS = 16
LOGITS = [5.0, 4.0, 3.0, 2.0]  # of the experts 0 … 3; two are chosen


@pytest.fixture
def routed():
    """A trace of three layers whose tokens all choose experts 0 and 1, after an edit."""

    def make(edit=lambda arrays: None, *, with_config=True):
        arrays = {}
        for layer in range(3):
            arrays[f"layers.{layer}.router_logits"] = np.tile(np.array(LOGITS, np.float32), (TOKENS, 1))
            arrays[f"layers.{layer}.router_indices"] = np.tile(np.array([0, 1], np.int32), (TOKENS, 1))
        edit(arrays)
        config = tiny_config(num_hidden_layers=3, num_experts=4, experts_per_token=2, sliding_window=WINDOW)
        metadata = TraceMetadata(source="test", dtype="float32", config=config if with_config else None)
        return Trace(np.arange(TOKENS), arrays, metadata)

    return make


def choose(layer, token, experts):
    def edit(arrays):
        arrays[f"layers.{layer}.router_indices"][token] = experts

    return edit


def near_tie(layer, token):
    """Brings the second and third expert together."""

    def edit(arrays):
        arrays[f"layers.{layer}.router_logits"][token] = [5.0, 4.0, 4.0 - 4e-6, 2.0]

    return edit


def test_margin_is_between_the_last_chosen_and_the_first_not_chosen(routed):
    routing = compare_routing(routed(near_tie(1, 3)), routed(), FLOAT32)
    assert routing.layers[0].margin.tolist() == [1.0] * TOKENS
    assert routing.layers[1].margin[3] == pytest.approx(4e-6, rel=0.1)


def test_margin_is_infinite_where_all_experts_are_chosen(routed):
    def all_four(arrays):
        arrays["layers.0.router_indices"] = np.tile(np.arange(4, dtype=np.int32), (TOKENS, 1))
        for layer in (1, 2):
            del arrays[f"layers.{layer}.router_indices"]

    config = tiny_config(num_hidden_layers=3, num_experts=4, experts_per_token=4)
    trace = routed(lambda arrays: None)
    arrays = dict(trace.arrays)
    all_four(arrays)
    trace = Trace(trace.tokens, arrays, TraceMetadata(source="test", dtype="float32", config=config))
    assert np.isinf(compare_routing(trace, trace, FLOAT32).layers[0].margin).all()


def test_flip_at_a_near_tie_is_arithmetic(routed):
    (flip,) = compare_routing(routed(near_tie(1, 3)), routed(choose(1, 3, [0, 2])), FLOAT32).flips
    assert (flip.layer, flip.token, flip.kind) == (1, 3, FlipKind.NEAR_TIE)
    assert flip.gap == pytest.approx(4e-6, rel=0.1)


def test_flip_across_a_wide_margin_is_real(routed):
    (flip,) = compare_routing(routed(), routed(choose(1, 3, [0, 2])), FLOAT32).flips
    assert (flip.kind, flip.gap) == (FlipKind.REAL, 1.0)


def test_near_tie_does_not_excuse_a_flip_to_a_distant_expert(routed):
    (flip,) = compare_routing(routed(near_tie(1, 3)), routed(choose(1, 3, [0, 3])), FLOAT32).flips
    assert (flip.kind, flip.gap) == (FlipKind.REAL, 2.0)


def test_same_experts_in_another_order_are_told_apart(routed):
    routing = compare_routing(routed(), routed(choose(2, 5, [1, 0])), FLOAT32)
    (flip,) = routing.flips
    assert flip.is_order_only
    assert (flip.kind, flip.gap) == (FlipKind.REAL, 1.0)
    assert routing.layers[2].same_experts.all()
    assert not routing.layers[2].same_order[5]


@pytest.mark.parametrize("experts", [[0, 0], [0, 4], [0, -1]])
def test_impossible_choice_is_real_even_after_a_near_tie(experts, routed):
    def first(arrays):
        near_tie(0, 3)(arrays)

    def second(arrays):
        choose(0, 3, [0, 2])(arrays)
        choose(1, 3, experts)(arrays)

    flips = compare_routing(routed(first), routed(second), FLOAT32).flips
    assert [flip.kind for flip in flips] == [FlipKind.NEAR_TIE, FlipKind.REAL]


def test_flip_behind_a_near_tie_is_its_consequence(routed):
    def second(arrays):
        choose(0, 3, [0, 2])(arrays)
        choose(1, 3, [0, 2])(arrays)

    flips = compare_routing(routed(near_tie(0, 3)), routed(second), FLOAT32).flips
    assert [flip.kind for flip in flips] == [FlipKind.NEAR_TIE, FlipKind.CONSEQUENCE]


def test_bfloat16_margin_grows_with_the_router_logits(routed):
    def scaled(factor):
        def edit(arrays):
            arrays["layers.0.router_logits"][2] = np.array([5.0, 4.0, 3.8, 2.0]) * factor

        return edit

    for factor in (1.0, 10.0):
        candidate = routed(choose(0, 2, [0, 2]))
        (flip,) = compare_routing(routed(scaled(factor)), candidate, BFLOAT16).flips
        assert flip.kind is FlipKind.NEAR_TIE
        (flip,) = compare_routing(routed(scaled(factor)), candidate, FLOAT32).flips
        assert flip.kind is FlipKind.REAL


def test_flip_reaches_all_later_tokens_in_full_layers_and_the_window_in_sliding_ones(routed):
    routing = compare_routing(routed(near_tie(1, 3)), routed(choose(1, 3, [0, 2])), FLOAT32)
    assert (routing.into[1] == Reach.CLEAN).all()
    assert np.flatnonzero(routing.out_of[1]).tolist() == [3]
    assert routing.out_of[1][3] == Reach.FLIPPED
    assert np.flatnonzero(routing.into[2] == Reach.REACHED).tolist() == [4, 5, 6]  # window 4: token 7 does not see 3

    routing = compare_routing(routed(near_tie(0, 3)), routed(choose(0, 3, [0, 2])), FLOAT32)
    assert np.flatnonzero(routing.into[1] == Reach.REACHED).tolist() == list(range(4, TOKENS))


def test_without_a_config_every_layer_sees_everything_before(routed):
    reference = routed(near_tie(1, 3), with_config=False)
    routing = compare_routing(reference, routed(choose(1, 3, [0, 2])), FLOAT32)
    assert np.flatnonzero(routing.into[2]).tolist() == list(range(3, TOKENS))


def test_without_router_logits_no_flip_is_excused(routed):
    def drop(arrays):
        for layer in range(3):
            del arrays[f"layers.{layer}.router_logits"]

    (flip,) = compare_routing(routed(drop), routed(choose(1, 3, [0, 2])), FLOAT32).flips
    assert flip.kind is FlipKind.REAL


def test_margin_is_an_argument(routed):
    tolerances = dataclasses.replace(FLOAT32).replace(margin=2.0)
    (flip,) = compare_routing(routed(), routed(choose(1, 3, [0, 2])), tolerances).flips
    assert flip.kind is FlipKind.NEAR_TIE
