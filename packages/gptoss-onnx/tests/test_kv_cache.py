import dataclasses

import numpy as np
import onnxruntime as ort
import pytest
from gptoss_onnx import RequestError
from gptoss_onnx.kv_cache import empty_cache
from gptoss_weights.testing import tiny_config


def test_an_empty_cache_fits_its_model():
    config = tiny_config()
    cache = empty_cache(config, 3)
    cache.check(config)
    assert cache.batch == 3
    assert cache.lengths.tolist() == [0, 0, 0]


def test_a_sliding_layer_keeps_no_more_than_its_window_and_a_full_one_everything(model, tokens):
    _, cache = model.prefill(model.init_cache(1), tokens[None])
    rows = [cache.values[f"past_key_values.{layer}.value"].shape()[2] for layer in range(2)]
    assert rows == [model.config.sliding_window - 1, len(tokens)]


def test_the_cache_of_another_model_is_refused():
    config = tiny_config()
    with pytest.raises(
        RequestError, match=r"past_key_values\.0\.key: .*expected \[1, 5, 0, 18\]; found \[1, 5, 0, 20\]"
    ):
        empty_cache(tiny_config(head_dim=20), 1).check(config)


def test_a_cache_of_too_few_layers_is_refused():
    config = tiny_config()
    with pytest.raises(RequestError, match=r"no past_key_values\.2\.key"):
        empty_cache(tiny_config(num_hidden_layers=2), 1).check(config)


def test_a_cache_whose_mask_was_cut_is_refused(model, tokens):
    _, cache = model.prefill(model.init_cache(1), tokens[None])
    with pytest.raises(RequestError, match="does not fit the model and its mask"):
        dataclasses.replace(cache, mask=cache.mask[:, 1:]).check(model.config)


def test_a_cache_is_a_value_that_can_be_continued_twice(model, tokens):
    _, cache = model.prefill(model.init_cache(1), tokens[None, :20])
    first, _ = model.decode_step(cache, tokens[20:21])
    again, _ = model.decode_step(cache, tokens[20:21])
    assert (first == again).all()
    assert cache.mask.shape == (1, 20)
    assert isinstance(cache.values["past_key_values.0.key"], ort.OrtValue)
    assert np.isfinite(first).all()
