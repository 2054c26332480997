"""Splitting a divergence, on traces whose parts are known."""

import numpy as np
from gptoss_parity.noise import measure_noise
from gptoss_parity.replay import split_divergence


def shifted(edited, amount, tokens=slice(None)):
    def change(arrays):
        arrays["logits"][tokens, 0] += np.float32(amount)

    return edited(change)


def split(trace, candidate, replayed, **more):
    affected = np.zeros(len(trace.tokens), bool)
    affected[5] = True
    return split_divergence(trace, candidate, replayed, **{"forced": "candidate", "is_affected": affected} | more)


def test_what_goes_with_the_experts_and_what_stays(trace, edited):
    def change(arrays):
        arrays["logits"][:, 0] += np.float32(0.01)
        arrays["logits"][5] = np.roll(arrays["logits"][5], 3)

    result = split(trace, edited(change), shifted(edited, 0.01))
    assert result.is_caused.tolist() == [token == 5 for token in range(len(trace.tokens))]
    assert result.removed_share_where_caused > 0.99
    assert 0.9 < result.removed_share < 1
    assert np.isclose(result.chosen_kl + result.computed_kl, result.total.mean())


def test_what_is_computed_differently_does_not_go(trace, edited):
    candidate = shifted(edited, 0.5)
    result = split(trace, candidate, candidate)
    assert result.removed_share == 0
    assert result.removed_share_where_caused is None


def test_forced_reference_is_compared_with_the_candidate_as_it_is(trace, edited):
    candidate = shifted(edited, 0.5)
    result = split(trace, candidate, candidate, forced="reference")
    assert (result.computed == 0).all()
    assert result.removed_share == 1


def test_equal_runs_have_nothing_to_split(trace):
    assert split(trace, trace, trace).removed_share == 0


def test_noise_of_equal_runs_is_exactly_nothing(trace, edited):
    noise = measure_noise(trace, edited(), "run again")
    assert (noise.is_exact, noise.max_abs, noise.kl_max, noise.flips) == (True, 0, 0, 0)


def test_noise_counts_flips(trace, edited):
    def change(arrays):
        arrays["layers.1.router_indices"][3, 0] = (arrays["layers.1.router_indices"][3].max() + 1) % 7
        arrays["logits"] *= np.float32(1.001)

    noise = measure_noise(edited(change), trace, "in float32")
    assert (noise.is_exact, noise.flips) == (False, 1)
    assert np.isclose(noise.relative_l2, 1e-3, rtol=1e-2)
