"""The embedded demo: the recipe makes it, and its goldens belong to it."""

from pathlib import Path

import numpy as np
import pytest
from gptoss_weights import open_checkpoint, probe_specs, verify_artefact
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH, DEMO_PROMPT, demo_checkpoint, demo_golden_path
from gptoss_weights.stop_tokens import eos_token_ids
from gptoss_weights.text import load_tokenizer
from safetensors import safe_open

DTYPES = ["float32", "bfloat16"]


def test_recipe_makes_the_same_weights_again(tmp_path: Path) -> None:
    from gptoss_weights.demo.build import build_demo

    build_demo(tmp_path / "demo")
    for name in ("config.json", "dtypes.json", "model.safetensors", "generation_config.json"):
        assert (tmp_path / "demo" / name).read_bytes() == (DEMO_CHECKPOINT_PATH / name).read_bytes(), name


def test_embedded_files_are_as_their_manifest_says() -> None:
    report = verify_artefact(DEMO_CHECKPOINT_PATH)
    assert report.manifest is not None
    assert (report.problems, report.unlisted) == ([], [])


def test_recipe_makes_a_tokenizer_of_the_same_ids(tmp_path: Path) -> None:
    from gptoss_weights.demo.build import build_demo

    build_demo(tmp_path / "demo")
    again, embedded = (load_tokenizer(open_checkpoint(path)) for path in (tmp_path / "demo", DEMO_CHECKPOINT_PATH))
    assert again.encode(DEMO_PROMPT) == embedded.encode(DEMO_PROMPT)


def test_dimensions_that_a_transpose_could_confuse_are_distinct() -> None:
    c = demo_checkpoint().config
    widths = [c.hidden_size, c.intermediate_size, 2 * c.intermediate_size, c.q_size, c.kv_size, c.vocab_size]
    counts = [c.num_hidden_layers, c.num_experts, c.num_attention_heads, c.num_key_value_heads, c.experts_per_token]
    assert len(set(widths)) == len(widths)
    assert len(set(counts)) == len(counts)


def test_prompt_is_several_windows_long() -> None:
    demo = demo_checkpoint()
    assert len(load_tokenizer(demo).encode(DEMO_PROMPT)) > 3 * demo.config.sliding_window


def test_stop_ids_are_those_of_return_and_endoftext() -> None:
    demo = demo_checkpoint()
    tokenizer = load_tokenizer(demo)
    assert [tokenizer.token_id("<|return|>"), tokenizer.token_id("<|endoftext|>")] == list(eos_token_ids(demo))


@pytest.mark.parametrize("dtype", DTYPES)
def test_goldens_hold_every_core_probe_of_the_prompt(dtype: str) -> None:
    demo = demo_checkpoint()
    tokens = load_tokenizer(demo).encode(DEMO_PROMPT)
    with safe_open(demo_golden_path(dtype), "np") as golden:
        metadata = golden.metadata()
        assert golden.get_tensor("tokens").tolist() == tokens
        for name, spec in probe_specs(demo.config, len(tokens)).items():
            values = golden.get_tensor(name)
            assert values.shape == spec.shape, name
            assert np.isfinite(values).all(), name
    assert metadata["checkpoint_digest"] == demo.digest()
    assert metadata["dtype"] == dtype
