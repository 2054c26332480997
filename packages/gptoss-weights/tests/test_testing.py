"""The tiny geometry hides nothing: its dimensions differ, YaRN is active, windows are short."""

from pathlib import Path

import pytest
from gptoss_weights import GPT_OSS_20B, CheckpointError, axis_sizes, open_checkpoint, random_checkpoint
from gptoss_weights.testing import tiny_config, write_hollow_checkpoint, write_tiny_checkpoint


def test_dimensions_differ_pairwise() -> None:
    config = tiny_config()
    sizes = [
        *axis_sizes(config).values(),
        config.num_key_value_heads,
        config.head_dim,
        config.experts_per_token,
        config.num_hidden_layers,
        config.sliding_window,
    ]
    assert len(set(sizes)) == len(sizes)
    assert config.rope_scaling_factor > 1


def test_overrides_replace_numbers() -> None:
    assert tiny_config(vocab_size=99).vocab_size == 99
    with pytest.raises(CheckpointError):
        tiny_config(head_dim=3)
    with pytest.raises(TypeError):
        tiny_config(vocabulary=99)


def test_both_formats_hold_the_same_weights(tmp_path: Path) -> None:
    one = write_tiny_checkpoint(tmp_path / "one", format="openai", seed=7, num_hidden_layers=3)
    two = write_tiny_checkpoint(tmp_path / "two", format="hf", seed=7, num_hidden_layers=3, max_shard_bytes=100_000)
    expected = random_checkpoint(tiny_config(num_hidden_layers=3), seed=7).digest()
    assert open_checkpoint(one).digest() == open_checkpoint(two).digest() == expected
    assert len(list(two.glob("*.safetensors"))) > 1


def test_hollow_checkpoint_is_full_size_and_takes_no_room(tmp_path: Path) -> None:
    folder = write_hollow_checkpoint(tmp_path / "hollow", GPT_OSS_20B)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config.to_openai() == GPT_OSS_20B.to_openai()
    assert checkpoint.read("model.layers.23.mlp.experts.down_proj", (31, slice(0, 2))).shape == (2, 2880)
    assert not checkpoint.read_array("lm_head.weight", (201087,)).any()
    status = (folder / "model.safetensors").stat()
    assert status.st_size > 13_700_000_000
    assert status.st_blocks * 512 < 1_000_000
