import numpy as np
import pytest
from gptoss_onnx import RequestError, stream


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


def test_no_new_tokens_are_no_work(model):
    assert model.generate([[1], [2, 3]], max_new_tokens=0) == [[], []]


@pytest.mark.parametrize(
    ("prompts", "count", "message"),
    [
        ([], 1, "no prompt to continue"),
        ([[1], []], 1, "prompt 1: a prompt needs at least one token"),
        ([[1]], -1, "max_new_tokens is at least 0"),
        ([[9999]], 1, "not in the vocabulary"),
    ],
)
def test_what_cannot_be_continued_is_refused(prompts, count, message, model):
    with pytest.raises(RequestError, match=message):
        model.generate(prompts, max_new_tokens=count)


def test_numpy_prompts_will_do(model):
    assert model.generate([np.array([1, 2])], max_new_tokens=2) == model.generate([[1, 2]], max_new_tokens=2)
