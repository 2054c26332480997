import numpy as np
import pytest
from gptoss_model import complete, generate, stream


@pytest.mark.parametrize("run", [generate, stream])
@pytest.mark.parametrize(
    ("prompts", "options", "words"),
    [
        ([], {}, "at least one prompt, and at least one token in each"),
        ([[]], {}, "prompt 0 is empty"),
        ([[1], []], {}, "prompt 1 is empty"),
        ([[211]], {}, r"token id 211 at \[0, 0\] is not in 0 … 210"),
        ([[1], [5, -1]], {}, r"token id -1 at \[1, 1\]"),
        ([[1]], {"max_new_tokens": -1}, "max_new_tokens is at least 0, not -1"),
        ([[1]], {"seed": -3}, "a seed is a whole number from 0 to 4294967295, not -3"),
        ([[1]], {"prefill_length": 0}, "prefill_length is at least 1"),
        ([[1]], {"max_length": 0}, "max_length is at least 1"),
        ([[1, 2, 3]], {"max_length": 5}, "a prompt of 3 tokens and 3 new ones make 6, more than max_length 5"),
        ([[1]], {"max_new_tokens": 2**31}, "make 2147483649, more than max_length 2147483647"),
    ],
)
def test_impossible_requests_are_refused_at_once(model, run, prompts, options, words):
    with pytest.raises(ValueError, match=words):
        run(model, prompts, **({"max_new_tokens": 3} | options))


@pytest.mark.parametrize("count", [-1, 212])
def test_as_many_top_logprobs_as_there_are_tokens(model, count):
    with pytest.raises(ValueError, match=f"top_logprobs is at least 0 and at most 211, not {count}"):
        complete(model, [[1]], max_new_tokens=3, top_logprobs=count)


def test_ids_are_whole_numbers(model):
    with pytest.raises(TypeError, match="integer"):
        generate(model, [[1.5]], max_new_tokens=1)


def test_prompts_may_be_arrays(model, prompts):
    arrays = [np.array(prompt, np.uint16) for prompt in prompts]
    assert generate(model, arrays, max_new_tokens=20) == generate(model, prompts, max_new_tokens=20)
