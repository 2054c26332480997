import numpy as np
import pytest
from gptoss_onnx import RequestError, complete, stream
from gptoss_weights.sampling import Sampling


def greedy(model, prompt, count):
    """By the full forward pass of the growing sequence, with no cache."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(model.forward([tokens])[0, -1].argmax()))
    return tokens[len(prompt) :]


def test_prompts_of_different_lengths_continue_as_each_alone(model, tokens):
    prompts = [tokens[:3].tolist(), tokens.tolist(), tokens[5:25].tolist()]
    together = model.generate(prompts, max_new_tokens=15)
    assert together == [greedy(model, prompt, 15) for prompt in prompts]


def test_a_sequence_ends_with_the_stop_id_while_the_others_go_on(model, tokens):
    prompts = [tokens[:3].tolist(), tokens[:17].tolist()]
    free = model.generate(prompts, max_new_tokens=12)
    stop = next(token for token in free[0] if token not in free[1])
    stopped = model.generate(prompts, max_new_tokens=12, eos_token_ids=[stop])
    assert stopped == [free[0][: free[0].index(stop) + 1], free[1]]


def test_steps_come_one_by_one_and_end_when_all_have_stopped(model, tokens):
    prompt = tokens[:5].tolist()
    first = model.generate([prompt], max_new_tokens=1)[0][0]
    [new] = stream(model, [prompt], max_new_tokens=50, eos_token_ids=[first])
    assert (new.token, new.finish_reason) == (first, "stop")


def test_a_stream_is_the_completion_token_by_token(model, tokens):
    prompts = [tokens[:3].tolist(), tokens[:9].tolist()]
    options = {"max_new_tokens": 7, "sampling": Sampling(temperature=1.0), "seed": 4, "top_logprobs": 2}
    completions = complete(model, prompts, **options)
    news = list(stream(model, prompts, **options))
    for place, completion in enumerate(completions):
        of_one = [new for new in news if new.sequence == place]
        assert [new.token for new in of_one] == completion.tokens
        assert [new.logprob for new in of_one] == completion.logprobs
        assert [new.top_logprobs for new in of_one] == completion.top_logprobs
        assert [new.finish_reason for new in of_one] == [None] * 6 + ["length"]


def test_log_probabilities_are_those_of_the_model_before_temperature_and_filters(model, tokens):
    prompt = tokens[:9].tolist()
    sampling = Sampling(temperature=2.0, top_k=40)
    [completion] = complete(model, [prompt], max_new_tokens=5, sampling=sampling, logprobs=True)
    logits = model.forward([prompt + completion.tokens])[0].astype(np.float64)
    for place, (token, logprob) in enumerate(zip(completion.tokens, completion.logprobs, strict=True)):
        row = logits[len(prompt) - 1 + place]
        assert logprob == pytest.approx(row[token] - np.log(np.exp(row).sum()), abs=1e-5)


def test_every_kind_of_export_continues_a_batch_as_each_alone(kind, tokens):
    prompts = [tokens[:3].tolist(), tokens[:40].tolist(), tokens[5:25].tolist()]
    free = kind.model.generate(prompts, max_new_tokens=15)
    assert free == [greedy(kind.model, prompt, 15) for prompt in prompts]
    stop = free[1][3]
    stopped = kind.model.generate(prompts, max_new_tokens=15, eos_token_ids=[stop])
    assert stopped == [ids[: ids.index(stop) + 1] if stop in ids else ids for ids in free]


def test_no_new_tokens_are_no_work(model):
    assert model.generate([[1], [2, 3]], max_new_tokens=0) == [[], []]


@pytest.mark.parametrize(
    ("prompts", "count", "message"),
    [
        ([], 1, "no prompt to continue"),
        ([[1], []], 1, "prompt 1: a prompt needs at least one token"),
        ([[1]], -1, "max_new_tokens is at least 0"),
        ([[9999]], 1, r"tokens\[0, 0\]: the token is not in the vocabulary"),
    ],
)
def test_what_cannot_be_continued_is_refused(prompts, count, message, model):
    with pytest.raises(RequestError, match=message):
        model.generate(prompts, max_new_tokens=count)


def test_numpy_prompts_will_do(model):
    assert model.generate([np.array([1, 2])], max_new_tokens=2) == model.generate([[1, 2]], max_new_tokens=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "a seed is a whole number from 0 to 4294967295, not -1"),
        ({"top_logprobs": 212}, "top_logprobs is at least 0 and at most 211, not 212"),
        ({"prefill_length": 0}, "prefill_length is at least 1, not 0"),
        ({"max_length": 3}, "a prompt of 2 tokens and 2 new ones make 4, more than max_length 3"),
    ],
)
def test_an_impossible_request_is_refused_before_anything_is_computed(options, message, model):
    with pytest.raises(RequestError, match=message):
        stream(model, [[1, 2]], max_new_tokens=2, **options)
