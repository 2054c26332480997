"""Live: JAX and ONNX Runtime in float32 against the official code in float32, on random checkpoints.

The limits are those of `gptoss_parity.FLOAT32`: relative L2 ≤ 2e-6 on the logits and every hidden
state, the same experts everywhere but at router margins < 1e-5.
"""

from typing import Any, NamedTuple

import pytest
from gptoss_parity import FLOAT32, FlipKind, compare
from gptoss_weights import open_checkpoint
from gptoss_weights.testing import write_tiny_checkpoint

pytestmark = pytest.mark.oracle

WINDOW = 11


class Case(NamedTuple):
    """A geometry in a layout, and the lengths of the prompts to run."""

    layout: str
    numbers: dict[str, Any]
    lengths: tuple[int, ...]
    max_shard_bytes: int | None = 60_000


CASES = {
    "original": Case("openai", {}, (1, 4 * WINDOW)),
    "hugging-face": Case("hf", {}, (WINDOW, WINDOW + 1)),
    "one-file": Case("hf", {"vocab_size": 97}, (3 * WINDOW,), max_shard_bytes=None),
    "one-expert-chosen": Case("openai", {"experts_per_token": 1}, (2 * WINDOW,)),
    "all-experts-chosen": Case("hf", {"experts_per_token": 7}, (2 * WINDOW,)),
    "one-layer": Case("openai", {"num_hidden_layers": 1}, (2 * WINDOW,)),
    "window-of-one": Case("hf", {"sliding_window": 1}, (9,)),
    "window-longer-than-the-prompt": Case("openai", {"sliding_window": 64}, (40,)),
    "one-kv-head-and-no-yarn": Case("hf", {"num_key_value_heads": 1, "rope_scaling_factor": 1.0}, (2 * WINDOW,)),
    "as-many-kv-heads": Case("openai", {"num_attention_heads": 5, "swiglu_limit": 1.5}, (2 * WINDOW,)),
}


@pytest.mark.parametrize("name", CASES)
def test_jax_and_onnx_agree_with_the_official_code(official, jax, onnx, make_prompt, tmp_path, name):
    case = CASES[name]
    seed = list(CASES).index(name)
    folder = write_tiny_checkpoint(
        tmp_path / "tiny", format=case.layout, seed=seed, max_shard_bytes=case.max_shard_bytes, **case.numbers
    )
    checkpoint = open_checkpoint(folder)
    for length in case.lengths:
        prompt = make_prompt(checkpoint.config, length)
        truth = official.record(checkpoint, prompt)
        for source in (jax, onnx):
            comparison = compare(truth, source.record(checkpoint, prompt))
            assert comparison.passed, comparison.verdict
            assert comparison.tolerances is FLOAT32
            assert not comparison.warnings
            assert {flip.kind for flip in comparison.routing.flips} <= {FlipKind.NEAR_TIE}
            if not comparison.routing.flips:
                hidden = [probe for probe in comparison.probes if "router" not in probe.name]
                assert max(probe.relative_l2 for probe in hidden) <= 2e-6


def test_greedy_continuations_equal_the_official_one(official, jax, onnx, make_prompt, tmp_path):
    """Through their caches, past the window, token for token."""
    checkpoint = open_checkpoint(write_tiny_checkpoint(tmp_path / "tiny", format="openai", seed=1))
    tokens = make_prompt(checkpoint.config, WINDOW - 2)
    continued = list(tokens)
    for _ in range(6):
        continued.append(int(official.record(checkpoint, continued)["logits"][-1].argmax()))
    for source in (jax, onnx):
        assert source.generate(checkpoint, tokens, max_new_tokens=6) == continued[len(tokens) :]
