"""One tiny model for all tests of generation, so that what is compiled for it is compiled once."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import GptOss, load_model
from gptoss_weights import random_checkpoint
from gptoss_weights.testing import tiny_config

LENGTHS = (35, 13, 28)  # the window is 11


@pytest.fixture(scope="session")
def make_model():
    """Models of one layer of each kind, sliding and full, unless told otherwise; equal ones are made once."""

    @functools.cache
    def make(dtype=jnp.float32, **overrides) -> GptOss:
        config = tiny_config(**{"num_hidden_layers": 2} | overrides)
        return load_model(random_checkpoint(config, seed=3), dtype=dtype)

    return make


@pytest.fixture(scope="session")
def model(make_model) -> GptOss:
    return make_model()


@pytest.fixture(scope="session")
def padded():
    """Three sequences in one batch, padded on a side or scattered: tokens and mask [3, 35]."""

    def pad(side: str) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(5)
        shape = (len(LENGTHS), max(LENGTHS))
        tokens, mask = rng.integers(0, 211, shape), np.zeros(shape, bool)
        for row, length in enumerate(LENGTHS):
            mask[row, -length:] = True
        if side == "right":
            mask = mask[:, ::-1]
        elif side == "scattered":
            mask = rng.permuted(mask, axis=1)
        return tokens, mask

    return pad


@pytest.fixture(scope="session")
def prompts(padded) -> list[list[int]]:
    tokens, mask = padded("right")
    return [row[real].tolist() for row, real in zip(tokens, mask, strict=True)]


@pytest.fixture(scope="session")
def full_logprobs(model):
    """Log-probabilities [n, 64, V] of up to three sequences, by the full forward pass, in float64."""

    def compute(sequences: list[list[int]]) -> np.ndarray:
        tokens, mask = np.zeros((3, 64), np.int32), np.zeros((3, 64), bool)
        for row, ids in enumerate(sequences):
            tokens[row, : len(ids)], mask[row, : len(ids)] = ids, True
        logits = np.asarray(model(tokens, mask=mask).logits, np.float64)[: len(sequences)]
        logits -= logits.max(axis=-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))

    return compute


@pytest.fixture(scope="session")
def naively(full_logprobs):
    """The argmax of the full forward pass, over and over, for three prompts of at most 64 tokens with the answer."""

    def continue_(prompts: list[list[int]], count: int) -> list[list[int]]:
        sequences = [list(prompt) for prompt in prompts]
        for _ in range(count):
            logprobs = full_logprobs(sequences)
            for row, ids in enumerate(sequences):
                ids.append(int(logprobs[row, len(ids) - 1].argmax()))
        return [ids[len(prompt) :] for ids, prompt in zip(sequences, prompts, strict=True)]

    return continue_
