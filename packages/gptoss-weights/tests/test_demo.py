"""The embedded demo: it is what the recipe starts with, but trained, and its goldens belong to it."""

from pathlib import Path

import numpy as np
import pytest
from gptoss_weights import probe_specs, verify_artefact
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH, DEMO_PROMPT, demo_checkpoint, demo_golden_path
from gptoss_weights.stop_tokens import eos_token_ids
from gptoss_weights.text import load_tokenizer
from safetensors import safe_open

FIRST_SPECIAL = demo_checkpoint().config.vocab_size - 10
DTYPES = ["float32", "bfloat16"]


def test_recipe_starts_with_the_embedded_geometry_and_special_tokens(tmp_path: Path) -> None:
    from gptoss_weights.demo.start import build_start

    build_start(tmp_path / "start", [Path(__file__).parents[1] / "LICENSE"])
    for name in ("config.json", "dtypes.json", "generation_config.json"):
        assert (tmp_path / "start" / name).read_bytes() == (DEMO_CHECKPOINT_PATH / name).read_bytes(), name
    again, embedded = (load_tokenizer(path) for path in (tmp_path / "start", DEMO_CHECKPOINT_PATH))
    special = "<|start|>assistant<|channel|>final<|message|><|return|><|endoftext|>"
    ids = [[token for token in tokenizer.encode(special) if token >= FIRST_SPECIAL] for tokenizer in (again, embedded)]
    assert len(ids[0]) == 5
    assert ids[0] == ids[1]


def test_embedded_files_are_as_their_manifest_says() -> None:
    report = verify_artefact(DEMO_CHECKPOINT_PATH)
    assert report.manifest is not None
    assert (report.problems, report.unlisted) == ([], [])


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
