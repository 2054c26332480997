import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.checks import check_mask, check_room, check_tokens


@pytest.mark.parametrize("tokens", [np.zeros(3, int), np.zeros((2, 3)), np.zeros((2, 0), int)])
def test_tokens_must_be_a_batch_of_integers(tokens):
    with pytest.raises(ValueError, match=r"tokens are integers \[B, T\]"):
        check_tokens(tokens, None, vocab_size=9)


@pytest.mark.parametrize("wrong", [-1, 9])
def test_id_outside_the_vocabulary_is_named_with_its_place(wrong):
    with pytest.raises(ValueError, match=rf"token id {wrong} at \[1, 2\] is not in 0 … 8"):
        check_tokens(np.array([[1, 2, 3], [4, 5, wrong]]), None, vocab_size=9)


def test_padding_may_hold_anything():
    tokens, mask = np.array([[-1, 5]]), np.array([[False, True]])
    assert check_tokens(tokens, mask, vocab_size=9) == (1, 2)


@pytest.mark.parametrize("mask", [np.ones((2, 3)), np.ones((3, 2), bool)])
def test_mask_must_be_bool_and_of_the_shape_of_the_tokens(mask):
    with pytest.raises(ValueError, match=r"mask must be bool \[2, 3\]"):
        check_mask(mask, (2, 3))


def test_no_mask_means_that_all_tokens_are_real():
    assert check_mask(None, (2, 3)).all()


def test_room_is_counted_in_real_tokens():
    mask = jnp.array([[True, True, False], [True, True, True]])
    check_room(jnp.array([3, 2]), mask, 5)
    with pytest.raises(ValueError, match=r"sequence 1 has 3 tokens in a cache of max_length 5: 3 more make 6"):
        check_room(jnp.array([3, 3]), mask, 5)


def test_another_batch_than_the_caches_is_refused():
    with pytest.raises(ValueError, match="the cache holds 1 sequences, the tokens 2"):
        check_room(jnp.array([0]), jnp.ones((2, 1), bool), 5)
