"""Greedy generation, token for token what transformers generates in float32, far past the window."""

import gc
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import GptOss, decode_step, generate, load_model, prefill
from gptoss_weights import Checkpoint, open_checkpoint, save_checkpoint
from gptoss_weights.testing import write_tiny_checkpoint

pytestmark = pytest.mark.oracle

NEW_TOKENS = 256
PROMPT_LENGTHS = (40, 12, 27)  # the window is 11
FEWEST_DISTINCT_TOKENS = 40  # an answer that has fallen into a loop would prove little


@pytest.fixture(scope="module", params=[1, 2, 3])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("generation") / "original"
    return open_checkpoint(write_tiny_checkpoint(folder, format="openai", seed=request.param))


@pytest.fixture(scope="module")
def prompts(checkpoint: Checkpoint) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, checkpoint.config.vocab_size, length).tolist() for length in PROMPT_LENGTHS]


@pytest.fixture(scope="module")
def expected(
    checkpoint: Checkpoint, prompts: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> list[list[int]]:
    """What transformers adds to each prompt by itself, through its own cache."""
    transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed")
    import torch

    folder: Path = tmp_path_factory.mktemp("transformers") / "plain"
    save_checkpoint(checkpoint, folder, format="hf-bf16")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    answers = []
    for ids in prompts:
        tokens = torch.tensor([ids])
        mask = torch.ones_like(tokens)  # otherwise it takes every id that equals pad_token_id for padding
        answers.append(model.generate(tokens, attention_mask=mask, **options)[0, len(ids) :].tolist())
    del model
    gc.collect()
    assert all(len(set(answer)) >= FEWEST_DISTINCT_TOKENS for answer in answers)
    return answers


def load(checkpoint: Checkpoint, **options: Any) -> GptOss:
    return load_model(checkpoint, dtype=jnp.float32, **options)


@pytest.mark.parametrize("options", [{"experts": "mxfp4"}, {"experts": "decoded"}, {"scan_layers": True}], ids=str)
def test_a_batch_of_different_lengths_continues_as_transformers_does(
    checkpoint: Checkpoint, prompts: list[list[int]], expected: list[list[int]], options: dict[str, Any]
) -> None:
    assert generate(load(checkpoint, **options), prompts, max_new_tokens=NEW_TOKENS) == expected


def test_prompts_in_pieces_and_alone_continue_alike(
    checkpoint: Checkpoint, prompts: list[list[int]], expected: list[list[int]]
) -> None:
    model = load(checkpoint)
    for prompt, answer in zip(prompts, expected, strict=True):
        assert generate(model, [prompt], max_new_tokens=NEW_TOKENS, prefill_length=7, max_length=300) == [answer]


def test_prompts_padded_on_the_left_continue_alike(
    checkpoint: Checkpoint, prompts: list[list[int]], expected: list[list[int]]
) -> None:
    model, longest = load(checkpoint), max(PROMPT_LENGTHS)
    tokens = np.array([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = np.array([np.arange(longest) >= longest - len(prompt) for prompt in prompts])
    logits, cache = prefill(model, model.init_cache(len(prompts), longest + NEW_TOKENS), tokens, mask)
    steps = []
    for _ in range(NEW_TOKENS):
        steps.append(logits.argmax(axis=-1))
        logits, cache = decode_step(model, cache, steps[-1])
    assert np.stack(steps, axis=1).tolist() == expected
