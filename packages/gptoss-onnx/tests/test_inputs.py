import numpy as np
import pytest
from gptoss_onnx import RequestError
from gptoss_onnx.inputs import check_batch, token_batch
from gptoss_onnx.kv_cache import empty_cache
from gptoss_weights.testing import tiny_config


@pytest.mark.parametrize("tokens", [[1, 2], [[1.5]], [[]], np.zeros((1, 1, 1), int)])
def test_tokens_are_integers_with_a_batch_axis(tokens):
    with pytest.raises(RequestError, match=r"tokens are integers \[B, T\]"):
        token_batch(tokens, None, vocab_size=10)


@pytest.mark.parametrize("token", [-1, 10])
def test_an_unknown_token_is_named_with_its_place(token):
    with pytest.raises(RequestError, match=rf"tokens\[1, 0\]: .*expected 0 … 9; found {token}"):
        token_batch([[1, 2], [token, 3]], None, vocab_size=10)


def test_padding_may_hold_any_id_and_becomes_zero():
    ids, is_real = token_batch([[1, -100]], np.array([[True, False]]), vocab_size=10)
    assert ids.tolist() == [[1, 0]]
    assert is_real.tolist() == [[True, False]]


@pytest.mark.parametrize("mask", [np.ones((1, 2), int), np.ones((2, 1), bool)])
def test_the_mask_is_bool_and_has_the_tokens_shape(mask):
    with pytest.raises(RequestError, match=r"expected bool \[1, 2\] as the tokens"):
        token_batch([[1, 2]], mask, vocab_size=10)


def test_a_cache_for_another_batch_is_refused():
    config = tiny_config()
    with pytest.raises(RequestError, match="expected 2 sequences; found 3"):
        check_batch(empty_cache(config, 3), np.ones((2, 1), bool))
