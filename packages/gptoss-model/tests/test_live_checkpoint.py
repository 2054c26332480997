import numpy as np
import pytest
from gptoss_model import abstract_model, canonical_names, load_model, model_checkpoint
from gptoss_weights import (
    Checkpoint,
    Mxfp4Tensor,
    compare_checkpoints,
    open_checkpoint,
    random_checkpoint,
    save_checkpoint,
)
from gptoss_weights.testing import tiny_config


@pytest.fixture(scope="module")
def four_layers() -> Checkpoint:
    return random_checkpoint(tiny_config(num_hidden_layers=4), seed=3)


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("experts", ["mxfp4", "decoded"])
def test_a_model_as_a_checkpoint_is_the_checkpoint_it_came_from(four_layers, experts, scan_layers, tmp_path):
    live = model_checkpoint(load_model(four_layers, experts=experts, scan_layers=scan_layers))
    assert list(live) == list(four_layers)
    assert not compare_checkpoints(live, four_layers).differences
    for name, spec in live.specs.items():
        packed = spec.is_expert_matrix and experts == "mxfp4"
        assert (live.array_dtype(name) is None) == packed
        assert isinstance(live.read(name), Mxfp4Tensor) == packed
    layout = "hf" if experts == "mxfp4" else "hf-bf16"
    save_checkpoint(live, tmp_path / "saved", format=layout, dtype="bfloat16")
    assert not compare_checkpoints(open_checkpoint(tmp_path / "saved"), four_layers).differences


@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_part_is_read_like_the_same_part_of_any_checkpoint(four_layers, scan_layers):
    live = model_checkpoint(load_model(four_layers, scan_layers=scan_layers))
    experts = "model.layers.2.mlp.experts.down_proj"
    for index in ((3,), (slice(1, 4), 5), (0, slice(None), slice(32, 64))):
        part, stored = live.read(experts, index), four_layers.read(experts, index)
        np.testing.assert_array_equal(part.blocks, stored.blocks)
        np.testing.assert_array_equal(part.scales, stored.scales)
    matrix, index = "model.layers.3.self_attn.q_proj.weight", (slice(2, 9), slice(1, 5))
    np.testing.assert_array_equal(live.read(matrix, index), four_layers.read(matrix, index))


def test_reading_on_a_cpu_gives_the_memory_of_the_device(four_layers):
    model = load_model(four_layers, scan_layers=True)
    name = "model.layers.3.self_attn.q_proj.weight"
    stack = canonical_names(model)[name].variable.get_value()
    assert np.shares_memory(model_checkpoint(model).read(name), np.asarray(stack))


def test_later_updates_of_the_model_do_not_change_the_checkpoint(four_layers):
    model = load_model(four_layers)
    live, norm = model_checkpoint(model), model.model.norm
    before = live.read("model.norm.weight").copy()
    norm.weight[...] = norm.weight[...] + 1
    np.testing.assert_array_equal(live.read("model.norm.weight"), before)
    np.testing.assert_array_equal(model_checkpoint(model).read("model.norm.weight"), before + 1)


def test_a_model_without_values_makes_no_checkpoint():
    with pytest.raises(ValueError, match=r"lm_head.weight has no values"):
        model_checkpoint(abstract_model(tiny_config()))
