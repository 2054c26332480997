import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.sampling import Sampling, SamplingValues, filter_logits, sample_tokens, sequence_keys
from gptoss_weights.sampling import sampling_probabilities

V = 50
draw = jax.jit(sample_tokens)
filtered = jax.jit(filter_logits)


def logits(rng, *, spread=2.0):
    return rng.normal(size=(4, V)).astype(np.float32) * spread


def values(**options):
    return SamplingValues.of(Sampling(**({"temperature": 1} | options)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.3},
        {"top_k": 1},
        {"top_k": 7},
        {"top_k": 2 * V},
        {"top_k": 2**40},
        {"top_p": 0.001},
        {"top_p": 0.6},
        {"top_p": 0.999},
        {"top_p": 1.0},
        {"min_p": 0.0},
        {"min_p": 0.07},
        {"min_p": 1.0},
        {"temperature": 1.7, "top_k": 20, "top_p": 0.8, "min_p": 0.1},
    ],
    ids=str,
)
def test_distribution_is_the_definitions(options, rng):
    x = logits(rng)
    actual = jax.nn.softmax(filtered(x, values(**options)))
    expected = sampling_probabilities(x, Sampling(**({"temperature": 1} | options)))
    np.testing.assert_array_equal(np.asarray(actual) > 0, expected > 0)
    np.testing.assert_allclose(actual, expected, rtol=2e-5)


@pytest.mark.parametrize("options", [{"top_k": 3}, {"top_p": 0.3}, {"min_p": 0.9}], ids=str)
def test_ties_as_bfloat16_makes_them_stay_or_go_together(options, rng):
    x = jnp.asarray(np.round(logits(rng)), jnp.bfloat16)
    expected = sampling_probabilities(np.asarray(x, np.float32), Sampling(temperature=1, **options))
    np.testing.assert_array_equal(np.isfinite(filtered(x, values(**options))), expected > 0)


@pytest.mark.parametrize("options", [{"top_p": 1e-39}, {"top_p": 1e-30}, {"min_p": 1e-46}])
def test_limits_below_what_f32_holds_keep_what_the_definition_keeps(options, rng):
    x = logits(rng)
    expected = sampling_probabilities(np.asarray(x, np.float32), Sampling(temperature=1, **options))
    np.testing.assert_array_equal(np.isfinite(filtered(x, values(**options))), expected > 0)


@pytest.mark.parametrize("temperature", [1.2e-38, 1e-6, 3e38])
def test_extreme_temperatures_overflow_nothing(temperature, rng):
    x = logits(rng, spread=20.0)
    probabilities = np.asarray(jax.nn.softmax(filtered(x, values(temperature=temperature))))
    expected = sampling_probabilities(x, Sampling(temperature=temperature))
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_tokens_that_the_model_rules_out_stay_out(rng):
    x = logits(rng)
    x[:, ::2] = -np.inf
    for options in ({}, {"top_k": 40}, {"top_p": 0.9999}, {"min_p": 1e-6}):
        assert not np.isfinite(filtered(x, values(**options))[:, ::2]).any()


def test_draws_follow_the_distribution(rng):
    """Chi-square over 20000 draws: 19 would be exceeded by chance once in a thousand with four degrees of freedom."""
    draws = 20_000
    row = np.log(np.array([0.35, 0.02, 0.25, 0.2, 0.1, 0.05, 0.03], np.float32))
    sampling = Sampling(temperature=1.3, top_k=6, top_p=0.93)
    tokens = draw(np.tile(row, (draws, 1)), sequence_keys(5, draws), jnp.int32(3), SamplingValues.of(sampling))
    expected = sampling_probabilities(row, sampling) * draws
    counts = np.bincount(np.asarray(tokens), minlength=len(row))
    assert counts[expected == 0].sum() == 0
    drawn = expected > 0
    assert drawn.sum() == 5
    assert ((counts - expected)[drawn] ** 2 / expected[drawn]).sum() < 19


def test_a_draw_depends_on_seed_sequence_and_step_alone(rng):
    x = np.repeat(logits(rng)[:1], 64, axis=0)
    tokens = np.asarray(draw(x, sequence_keys(1, 64), jnp.int32(0), values()))
    assert len(set(tokens.tolist())) > 5, "sequences draw for themselves"
    np.testing.assert_array_equal(draw(x[:3], sequence_keys(1, 3), jnp.int32(0), values()), tokens[:3])
    assert (np.asarray(draw(x, sequence_keys(1, 64), jnp.int32(1), values())) != tokens).any()
    assert (np.asarray(draw(x, sequence_keys(2, 64), jnp.int32(0), values())) != tokens).any()
    assert (np.asarray(draw(x, sequence_keys(2**32 - 1, 64), jnp.int32(0), values())) != tokens).any()


def test_draws_do_not_hang_on_jaxs_default_generator(rng):
    x = logits(rng)
    usual = sample_tokens(x, sequence_keys(1, 4), jnp.int32(0), values())
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(sample_tokens(x, sequence_keys(1, 4), jnp.int32(0), values()), usual)


def test_temperature_0_and_no_sampling_are_the_argmax(rng):
    assert SamplingValues.of(None) is None
    assert values(temperature=0, top_k=3) is None
    x = logits(rng)
    np.testing.assert_array_equal(sample_tokens(x, sequence_keys(0, 4), jnp.int32(0), None), x.argmax(axis=-1))


def test_other_numbers_compile_nothing_anew(rng):
    traces = []

    @jax.jit
    def traced(x, sampling):
        traces.append(1)
        return filter_logits(x, sampling)

    for temperature, top_k in ((0.5, 3), (1.5, 8)):
        traced(logits(rng), values(temperature=temperature, top_k=top_k))
    assert len(traces) == 1


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_beyond_32_bits_are_refused(seed):
    from gptoss_model.sampling import check_seed

    with pytest.raises(ValueError, match=f"from 0 to 4294967295, not {seed}"):
        check_seed(seed)
