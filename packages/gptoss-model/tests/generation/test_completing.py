import numpy as np
import pytest
from gptoss_model import Sampling, complete, generate
from gptoss_weights import GptOssWarning


def test_generate_is_the_argmax_of_the_full_forward_pass_for_every_prompt(model, prompts, naively):
    assert generate(model, prompts, max_new_tokens=20) == naively(prompts, 20)


def test_a_sequence_ends_with_its_eos_while_others_go_on(model, prompts):
    free = generate(model, prompts, max_new_tokens=20)
    eos = free[1][4]
    completions = complete(model, prompts, max_new_tokens=20, eos_token_ids=[eos, 210])
    for completion, whole in zip(completions, free, strict=True):
        ends = [index for index, token in enumerate(whole) if token in (eos, 210)]
        assert completion.tokens == (whole[: ends[0] + 1] if ends else whole)
        assert completion.finish_reason == ("stop" if ends else "length")
    assert len(completions[1].tokens) <= 5
    assert {completion.finish_reason for completion in completions} == {"stop", "length"}


def test_an_eos_as_last_possible_token_is_a_stop(model, prompts):
    free = generate(model, prompts, max_new_tokens=20)
    count = next(n for n in range(1, 20) if free[0][n] not in free[0][:n]) + 1
    [completion, *_] = complete(model, prompts, max_new_tokens=count, eos_token_ids=[free[0][count - 1]])
    assert completion.tokens == free[0][:count]
    assert completion.finish_reason == "stop"


def test_fewer_tokens_are_a_beginning_of_more(model, prompts):
    short, long = (generate(model, prompts, max_new_tokens=n) for n in (1, 20))
    assert [ids[:1] for ids in long] == short
    assert generate(model, prompts, max_new_tokens=0) == [[], [], []]


@pytest.mark.numbers
def test_prompts_come_in_pieces_of_any_length(model, naively):
    long = np.random.default_rng(2).integers(0, 211, 40).tolist()
    mixed = [long, long[:9], long[:32]]
    assert generate(model, mixed, max_new_tokens=20, prefill_length=32) == naively(mixed, 20)


def test_logprobs_are_those_of_the_full_forward_pass(model, prompts, full_logprobs):
    eos = generate(model, prompts, max_new_tokens=20)[1][4]
    completions = complete(
        model, prompts, max_new_tokens=20, eos_token_ids=[eos], top_logprobs=3, prompt_logprobs=True, prefill_length=32
    )
    expected = full_logprobs([prompt + new.tokens for prompt, new in zip(prompts, completions, strict=True)])
    for prompt, completion, table in zip(prompts, completions, expected, strict=True):
        chosen = [table[place, token] for place, token in enumerate(completion.tokens, len(prompt) - 1)]
        np.testing.assert_allclose(completion.logprobs, chosen, atol=1e-5)
        of_prompt = [table[place, token] for place, token in enumerate(prompt[1:])]
        np.testing.assert_allclose(completion.prompt_logprobs, of_prompt, atol=1e-5)
        assert len(completion.top_logprobs) == len(completion.tokens)
        for place, top in enumerate(completion.top_logprobs, len(prompt) - 1):
            assert list(top) == np.argsort(-table[place])[:3].tolist()
            np.testing.assert_allclose(list(top.values()), np.sort(table[place])[::-1][:3], atol=1e-5)


@pytest.mark.numbers
def test_nothing_is_reported_unasked_and_logprobs_alone_have_no_others(model, prompts):
    plain = complete(model, prompts, max_new_tokens=20)[0]
    assert (plain.logprobs, plain.top_logprobs, plain.prompt_logprobs) == (None, None, None)
    asked = complete(model, prompts, max_new_tokens=20, logprobs=True)[0]
    assert asked.top_logprobs is None
    assert asked.tokens == plain.tokens
    assert len(asked.logprobs) == 20


@pytest.mark.numbers
def test_prompts_can_be_scored_without_generating(model, prompts, full_logprobs):
    completions = complete(model, prompts, max_new_tokens=0, prompt_logprobs=True)
    for prompt, completion, table in zip(prompts, completions, full_logprobs(prompts), strict=True):
        assert (completion.tokens, completion.finish_reason) == ([], "length")
        expected = table[np.arange(len(prompt) - 1), prompt[1:]]
        np.testing.assert_allclose(completion.prompt_logprobs, expected, atol=1e-5)


SAMPLING = Sampling(temperature=1.5, top_k=60, top_p=0.97, min_p=0.001)


def test_sampling_repeats_with_its_seed_and_differs_with_another(model, prompts):
    first, again, other = (
        generate(model, prompts, max_new_tokens=20, sampling=SAMPLING, seed=seed) for seed in (7, 7, 8)
    )
    assert first == again
    assert all(ours != theirs for ours, theirs in zip(first, other, strict=True))
    assert first != generate(model, prompts, max_new_tokens=20)


@pytest.mark.numbers
def test_a_sequence_draws_the_same_whatever_its_neighbours(model, prompts):
    together = generate(model, prompts, max_new_tokens=20, sampling=SAMPLING, seed=7)
    neighbours = [prompts[0], prompts[2], prompts[1]]
    assert generate(model, neighbours, max_new_tokens=20, sampling=SAMPLING, seed=7)[0] == together[0]
    twice = generate(model, [prompts[0]] * 3, max_new_tokens=20, sampling=SAMPLING, seed=7)
    assert twice[0] == together[0]
    assert len({tuple(ids) for ids in twice}) == 3, "equal prompts draw for themselves"


@pytest.mark.numbers
def test_a_draw_does_not_depend_on_the_lengths_of_programs(model, prompts):
    usual = generate(model, prompts, max_new_tokens=20, sampling=SAMPLING, seed=7)
    fixed = generate(model, prompts, max_new_tokens=20, sampling=SAMPLING, seed=7, prefill_length=32, max_length=64)
    assert fixed == usual


def test_temperature_0_is_greedy(model, prompts):
    greedy = generate(model, prompts, max_new_tokens=20)
    assert generate(model, prompts, max_new_tokens=20, sampling=Sampling(temperature=0, top_p=0.5), seed=3) == greedy


def test_a_request_beyond_the_rotary_positions_is_warned_of(make_model):
    small = make_model(num_hidden_layers=1, initial_context_length=16, rope_scaling_factor=1.0)
    with pytest.warns(GptOssWarning, match="can reach 17 tokens, .* meant for at most 16"):
        [new] = generate(small, [[1] * 14], max_new_tokens=3)
    assert len(new) == 3
