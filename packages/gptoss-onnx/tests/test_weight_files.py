import numpy as np
import pytest
from gptoss_onnx.recipe import Recipe
from gptoss_onnx.weight_files import COMPUTED_FILE, plan_weight_files
from gptoss_weights import CheckpointError, NotEnoughSpaceError, StoredMxfp4, open_checkpoint, random_checkpoint
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint


def test_files_inside_the_output_stay_where_they_are(checkpoint_folder, checkpoint):
    files = plan_weight_files(checkpoint, checkpoint_folder.parent)
    assert {path.parent.name for path in files.in_place} == {checkpoint_folder.name}
    assert files.bytes_to_write == 0
    assert not files.copies


def test_every_tensor_keeps_its_offset(checkpoint, tmp_path):
    files = plan_weight_files(checkpoint, tmp_path)
    for name in checkpoint:
        stored = checkpoint.stored(name)
        parts = {name: stored}
        if isinstance(stored, StoredMxfp4):
            parts = {f"{name}_blocks": stored.blocks, f"{name}_scales": stored.scales}
        for part, place in parts.items():
            assert (files.tensors[part].offset, files.tensors[part].shape) == (place.offset, place.shape)
            assert files.copies[files.tensors[part].path] == place.path


def test_query_key_and_value_are_row_ranges_of_the_fused_matrix(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "openai", format="openai")
    files = plan_weight_files(open_checkpoint(folder), folder)
    query, key = (files.tensors[f"model.layers.0.self_attn.{name}_proj.weight"] for name in "qk")
    assert key.offset == query.offset + query.nbytes


def test_of_a_file_that_is_hardly_needed_no_more_than_that_is_written(tmp_path, read_safetensors):
    """One of four layers; or a profile that takes the embedding alone as it is stored."""
    whole = open_checkpoint(write_tiny_checkpoint(tmp_path / "checkpoint", format="hf", num_hidden_layers=4))
    tmp_path = tmp_path / "output"
    tmp_path.mkdir()
    names = [name for name in whole if ".layers." not in name or ".layers.0." in name]
    files = plan_weight_files(whole, tmp_path, names=names)
    assert not files.copies
    assert list(files.write(tmp_path)) == [tmp_path / COMPUTED_FILE]
    arrays = read_safetensors(tmp_path / COMPUTED_FILE)
    assert arrays.keys() == files.tensors.keys()
    assert (arrays["lm_head.weight"] == whole.read_array("lm_head.weight").astype(np.float32)).all()
    assert (arrays["model.layers.0.mlp.experts.down_proj_scales"].shape) == whole.read(
        "model.layers.0.mlp.experts.down_proj"
    ).scales.shape
    fast = plan_weight_files(whole, tmp_path, recipe=Recipe(profile="fast", experts="int8", attention="grouped-query"))
    assert not fast.copies
    assert "model.embed_tokens.weight" in fast.tensors


def test_what_is_stored_nowhere_is_streamed_into_a_safetensors_file(tmp_path, read_safetensors):
    source = random_checkpoint(tiny_config(), seed=2)
    files = plan_weight_files(source, tmp_path)
    assert list(files.write(tmp_path)) == [tmp_path / COMPUTED_FILE]
    assert (tmp_path / COMPUTED_FILE).stat().st_size == files.bytes_to_write
    arrays = read_safetensors(tmp_path / COMPUTED_FILE)
    assert arrays.keys() == files.tensors.keys()
    bias = source.read_array("model.layers.1.mlp.router.bias")
    assert (arrays["model.layers.1.mlp.router.bias"] == bias.astype(np.float32)).all()


def test_a_computed_tensor_is_read_in_slices(tmp_path, monkeypatch):
    source = random_checkpoint(tiny_config(), seed=2)
    files = plan_weight_files(source, tmp_path / "whole")
    whole, sliced = tmp_path / "whole", tmp_path / "sliced"
    for folder, slice_bytes in ((whole, 1 << 20), (sliced, 5000)):
        folder.mkdir()
        monkeypatch.setattr("gptoss_onnx.forms.SLICE_BYTES", slice_bytes)
        list(files.write(folder))
    assert (whole / COMPUTED_FILE).read_bytes() == (sliced / COMPUTED_FILE).read_bytes()


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_link_in_place_is_refused_because_readers_refuse_it(kind, tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "checkpoint", format="hf")
    [weights] = folder.glob("*.safetensors")
    moved = folder / "blob"
    weights.rename(moved)
    if kind == "symbolic":
        weights.symlink_to(moved)
    else:
        weights.hardlink_to(moved)
    with pytest.raises(CheckpointError, match=f"{weights.name}.*is a link.*Export into another folder"):
        plan_weight_files(open_checkpoint(folder), folder)


def test_a_full_disk_is_noticed_before_anything_is_written(checkpoint, tmp_path, monkeypatch):
    files = plan_weight_files(checkpoint, tmp_path)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(NotEnoughSpaceError, match="found 1,000 bytes free"):
        list(files.write(tmp_path))
    assert list(tmp_path.iterdir()) == []
