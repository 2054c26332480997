import numpy as np
import pytest
from gptoss_model import prompt_logits

TOLERANCE = 2e-6  # relative L2 in f32


@pytest.mark.numbers
@pytest.mark.parametrize("prefill_length", [None, 32], ids=str)
def test_slabs_together_are_the_full_forward_pass(model, prompts, relative_error, prefill_length):
    prompt = [*prompts[0], *prompts[1]]  # 48 tokens: two pieces of 32, or one of 64, each in slabs of 32
    slabs = list(prompt_logits(model, prompt, prefill_length=prefill_length))
    assert [len(slab) for slab in slabs] == [32, 16]
    expected = model(np.array([prompt + [0] * 16]), mask=np.arange(64)[None] < 48).logits[0, :48]
    assert relative_error(np.concatenate(slabs), expected) < TOLERANCE


@pytest.mark.parametrize("first", [0, 1, 31, 40, 47, -1])
def test_slabs_begin_where_they_are_wanted(model, prompts, first):
    prompt = [*prompts[0], *prompts[1]]
    whole = np.concatenate(list(prompt_logits(model, prompt, prefill_length=32)))
    part = np.concatenate(list(prompt_logits(model, prompt, prefill_length=32, first=first)))
    np.testing.assert_array_equal(part, whole[first:])


def test_short_prompts_have_short_slabs(model, prompts):
    [slab] = prompt_logits(model, prompts[0][:5])
    assert slab.shape == (5, model.config.vocab_size)
    assert slab.dtype == np.float32


@pytest.mark.parametrize(
    ("prompt", "first", "words"),
    [([], 0, "prompt 0 is empty"), ([999], 0, "token id 999"), ([1, 2], 2, "a prompt of 2 tokens has no position 2")],
)
def test_impossible_prompts_are_refused_at_once(model, prompt, first, words):
    with pytest.raises(ValueError, match=words):
        prompt_logits(model, prompt, first=first)
