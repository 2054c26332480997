"""Random checkpoints are the same for the same seed, lazy, and of ordinary size at any geometry."""

import numpy as np
import pytest
from gptoss_weights import GPT_OSS_20B, GptOssConfig, Mxfp4Tensor, random_checkpoint
from gptoss_weights.testing import tiny_config

Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
EXPERTS = ("model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.down_proj")


def test_same_seed_gives_same_weights_and_another_seed_others() -> None:
    one, same, other = (random_checkpoint(tiny_config(), seed=seed) for seed in (3, 3, 4))
    assert one.digest() == same.digest() != other.digest()


def test_weights_never_change_between_versions() -> None:
    # recorded once: goldens and benchmarks elsewhere rest on these bytes
    assert random_checkpoint(tiny_config(), seed=0).digest().startswith("f718bd826aee3c8f")


def test_tensors_of_equal_shape_differ() -> None:
    checkpoint = random_checkpoint(tiny_config(), seed=0)
    layers = [checkpoint.read_array(f"model.layers.{layer}.self_attn.q_proj.weight") for layer in range(2)]
    assert not np.array_equal(layers[0], layers[1])


@pytest.mark.parametrize("index", [(3,), (-1,), (slice(2, 9),), (slice(None), 5), (slice(8, 2, -2),), (slice(5, 5),)])
def test_part_equals_the_same_part_of_the_whole(index: tuple[int | slice, ...]) -> None:
    checkpoint = random_checkpoint(tiny_config(), seed=0)
    np.testing.assert_array_equal(checkpoint.read_array(Q_PROJ, index), checkpoint.read_array(Q_PROJ)[index])


def test_part_across_streams_equals_the_same_part_of_the_whole() -> None:
    checkpoint = random_checkpoint(tiny_config(vocab_size=30_000), seed=0)  # 2.9 M values: three streams
    whole = checkpoint.read_array("lm_head.weight")
    for rows in (slice(0, 11_000), slice(10_900, 22_000), slice(29_999, 30_000), slice(20_000, 30_000)):
        np.testing.assert_array_equal(checkpoint.read_array("lm_head.weight", (rows,)), whole[rows])


def test_one_expert_equals_the_same_expert_of_the_whole() -> None:
    checkpoint = random_checkpoint(tiny_config(), seed=0)
    whole, part = checkpoint.read(EXPERTS[0]), checkpoint.read(EXPERTS[0], (5, slice(3, 9)))
    assert isinstance(whole, Mxfp4Tensor)
    assert isinstance(part, Mxfp4Tensor)
    np.testing.assert_array_equal(part.decode(), whole.decode()[5, 3:9])


@pytest.mark.parametrize("config", [tiny_config(), tiny_config(hidden_size=1024, intermediate_size=2880)])
def test_matrices_keep_activations_of_order_one(config: GptOssConfig) -> None:
    checkpoint = random_checkpoint(config, seed=1)
    for name in EXPERTS:
        expert = checkpoint.read(name, (0,))
        assert isinstance(expert, Mxfp4Tensor)
        values = expert.decode(np.float32)
        assert np.isfinite(values).all()
        assert values.std() * np.sqrt(values.shape[-1]) == pytest.approx(1.0, rel=0.1)
        assert len(np.unique(expert.scales)) == 2
    router = checkpoint.read_array("model.layers.0.mlp.router.weight").astype(np.float32)
    assert router.std() * np.sqrt(config.hidden_size) == pytest.approx(1.0, rel=0.1)
    head = checkpoint.read_array("lm_head.weight").astype(np.float32)
    assert head.std() * np.sqrt(config.hidden_size) == pytest.approx(2.0, rel=0.05)
    assert checkpoint.read_array("model.norm.weight").astype(np.float32).mean() == pytest.approx(1.0, abs=0.05)
    bias = checkpoint.read_array("model.layers.0.mlp.experts.down_proj_bias").astype(np.float32)
    assert 0.05 < bias.std() < 0.2


def test_full_size_tensors_are_made_row_by_row() -> None:
    checkpoint = random_checkpoint(GPT_OSS_20B, seed=0)
    assert checkpoint.read("model.layers.23.mlp.experts.down_proj", (31,)).shape == (2880, 2880)
    assert checkpoint.read_array("lm_head.weight", (slice(201_080, 201_088),)).shape == (8, 2880)


def test_arrays_are_read_only() -> None:
    checkpoint = random_checkpoint(tiny_config(), seed=0)
    assert not checkpoint.read_array(Q_PROJ).flags.writeable
    assert not checkpoint.read_array(Q_PROJ, (slice(0, 2),)).flags.writeable


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="the seed must not be negative, but is -1"):
        random_checkpoint(tiny_config(), seed=-1)
