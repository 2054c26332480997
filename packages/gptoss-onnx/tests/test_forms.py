"""Other forms of the same numbers, read back."""

import dataclasses

import numpy as np
import pytest
from gptoss_onnx.forms import codes_name, computed_arrays, kernel_name, scales_name, table_name
from gptoss_onnx.recipe import choose_recipe
from gptoss_weights import Mxfp4Tensor, random_checkpoint
from gptoss_weights.testing import tiny_config


@pytest.fixture(scope="module")
def source():
    return random_checkpoint(tiny_config(head_dim=32), seed=1)


def arrays(source, **options):
    computed, unchanged = computed_arrays(source, choose_recipe(source, **options), list(source))
    found = {}
    for group in computed:
        for name, (dtype, shape) in group.shapes.items():
            found[name] = np.empty(shape, dtype)
        for start, rows in group.pieces():
            for name, piece in zip(group.shapes, rows, strict=True):
                assert piece.dtype == found[name].dtype
                found[name][start : start + len(piece)] = piece
    return found, unchanged


def test_int8_holds_mxfp4_exactly_every_code_and_every_scale(monkeypatch):
    """All 256 bytes under all scales whose values are finite in f32."""
    source = random_checkpoint(tiny_config(num_experts=256, num_hidden_layers=1), seed=0)
    name = "model.layers.0.mlp.experts.down_proj"
    experts, out, columns = source.specs[name].shape
    blocks = np.resize(np.arange(256, dtype=np.uint8), (experts, out, columns // 32, 16))
    scales = np.broadcast_to(np.arange(256, dtype=np.uint8).clip(0, 252)[:, None, None], (experts, out, columns // 32))
    tensor = Mxfp4Tensor(blocks, np.ascontiguousarray(scales))
    monkeypatch.setattr(
        source,
        "read",
        lambda asked, index=(): (
            Mxfp4Tensor(tensor.blocks[index[0]], tensor.scales[index[0]]) if asked == name else None
        ),
    )
    computed, _ = computed_arrays(source, dataclasses.replace(choose_recipe_unread(), experts="int8"), [name])
    [group] = computed
    codes, factors = group.rows(0, experts)
    values = (codes.astype(np.float64) - 128).reshape(*factors.shape, 32) * factors[..., None]
    assert (values.reshape(tensor.shape) == tensor.decode(np.float32)).all()
    assert set(np.unique(codes)) <= set(range(128 - 12, 128 + 13))


def choose_recipe_unread():
    return choose_recipe(random_checkpoint(tiny_config(), seed=0), profile="fast")


def test_a_kernel_is_the_matrix_the_other_way_round_in_slices_too(source, monkeypatch):
    whole, _ = arrays(source, profile="fast")
    monkeypatch.setattr("gptoss_onnx.forms.SLICE_BYTES", 3000)
    sliced, _ = arrays(source, profile="fast")
    for name in ("lm_head.weight", "model.layers.1.self_attn.k_proj.weight", "model.layers.0.mlp.router.weight"):
        expected = source.read_array(name).T.astype(np.float32)
        assert (whole[kernel_name(name)] == expected).all()
        assert (sliced[kernel_name(name)] == expected).all()


@pytest.mark.parametrize(("dense", "bits", "block"), [("int8", 8, 128), ("int4", 4, 32)])
def test_rounded_matrices_are_within_a_step_and_mostly_half_and_the_routers_is_none(dense, bits, block, source):
    found, _ = arrays(source, profile="fast", dense=dense)
    name = "model.layers.1.self_attn.o_proj.weight"
    matrix = source.read_array(name).astype(np.float64)
    out, columns = matrix.shape
    scales = found[scales_name(name, bits)].astype(np.float64)
    codes = found[codes_name(name, bits)]
    if bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:2], block)
    zero = 1 << bits - 1
    restored = ((codes.astype(np.float64) - zero) * scales[..., None]).reshape(out, -1)
    steps = np.abs(restored[:, :columns] - matrix) / np.abs(np.repeat(scales, block, axis=1)[:, :columns])
    assert steps.max() <= 1.0001  # where the greatest code is one short
    assert (steps <= 0.5001).mean() > (0.95 if bits == 4 else 0.99)
    # The value of greatest magnitude is kept.
    greatest = np.abs(np.pad(matrix, ((0, 0), (0, -columns % block)))).reshape(out, -1, block).max(-1)
    np.testing.assert_allclose(np.abs(scales) * zero, greatest, rtol=1e-6)
    assert ((codes == 0).any(-1) | (scales == 0)).all()
    assert kernel_name("model.layers.1.mlp.router.weight") in found


def test_the_projections_of_query_key_and_value_are_one_matrix_where_they_are_rounded(source, monkeypatch):
    whole, unchanged = arrays(source, profile="fast", dense="int8")
    monkeypatch.setattr("gptoss_onnx.forms.SLICE_BYTES", 7 * 16 * source.config.hidden_size)
    sliced, _ = arrays(source, profile="fast", dense="int8")
    name = "model.layers.1.self_attn"
    merged = f"{name}.qkv_proj"
    assert not any(f"{name}.{part}_proj" in kept for part in "qkv" for kept in (*whole, *unchanged))
    for found in (whole, sliced):
        expected = [source.read_array(f"{name}.{part}_proj.weight").astype(np.float64) for part in "qkv"]
        scales = found[scales_name(f"{merged}.weight")].astype(np.float64)
        codes = found[codes_name(f"{merged}.weight")].astype(np.float64)
        restored = ((codes - 128) * scales[..., None]).reshape(len(codes), -1)[:, : source.config.hidden_size]
        assert np.abs(restored - np.concatenate(expected)).max() <= np.abs(scales).max() * 1.0001
        biases = [source.read_array(f"{name}.{part}_proj.bias").astype(np.float32) for part in "qkv"]
        assert (found[f"{merged}.bias"] == np.concatenate(biases)).all()


def test_rounding_takes_rows_by_what_it_needs_for_its_work(source, monkeypatch):
    """16 bytes a value, of which half a byte is left: by the size of what comes of it, slices would be too large."""
    columns = source.config.q_size
    monkeypatch.setattr("gptoss_onnx.forms.SLICE_BYTES", 5 * 16 * columns)
    recipe = choose_recipe(source, profile="fast", dense="int4")
    rounded = computed_arrays(source, recipe, ["model.layers.0.self_attn.o_proj.weight"])[0][0]
    assert {len(codes) for _, (codes, _) in rounded.pieces()} <= {5, source.config.hidden_size % 5}


def test_rotation_tables_cover_every_position_that_the_config_is_meant_for(source):
    found, _ = arrays(source, profile="fast")
    config = source.config
    for name, function in (("cos", np.cos), ("sin", np.sin)):
        table = found[table_name(name)]
        assert table.shape == (config.max_position_embeddings, config.head_dim // 2)
        angles = (np.float32(131071) * config.inverse_frequencies().astype(np.float32)).astype(np.float64)
        np.testing.assert_allclose(table[131071], 1.3465735903 * function(angles), atol=1e-6)


def test_portable_leaves_everything_as_it_is(source):
    found, unchanged = arrays(source)
    assert found == {}
    assert unchanged == set(source)
