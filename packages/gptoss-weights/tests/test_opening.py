"""Opening recognises the layout, holds everything against the schema, and tells all that is wrong at once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gptoss_weights import CheckpointError, open_checkpoint
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint

type EditHeader = Callable[[Path, Callable[[dict[str, Any]], None]], None]


def opening_error(folder: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(folder, **options)
    return str(error.value)


def shard_of(folder: Path, raw_name: str) -> Path:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    return folder / index["weight_map"][raw_name]


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


# ------------------------------------------------------------------------- what opens


def test_layout_is_recognised_from_the_tensors(openai_folder: Path, hf_folder: Path) -> None:
    assert open_checkpoint(openai_folder).format == "openai"
    assert open_checkpoint(str(hf_folder)).format == "hf"


def test_either_config_dialect_serves_either_layout(openai_folder: Path, hf_folder: Path) -> None:
    digest = open_checkpoint(hf_folder).digest()
    assert open_checkpoint(openai_folder, config=hf_folder / "config.json").digest() == digest
    shutil.copy(openai_folder / "config.json", hf_folder / "config.json")
    assert open_checkpoint(hf_folder).digest() == digest


def test_folder_of_both_layouts_opens_as_hugging_face_and_its_original_as_openai(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "both", format="hf")
    write_tiny_checkpoint(folder / "original", format="openai")
    (folder / "tokenizer.json").write_text("{}")
    assert open_checkpoint(folder).format == "hf"
    assert open_checkpoint(folder / "original").format == "openai"
    assert open_checkpoint(folder / "original").side_files == {"tokenizer.json": folder / "tokenizer.json"}


def test_side_files_are_those_of_the_folder(hf_folder: Path) -> None:
    (hf_folder / "tokenizer.json").write_text("{}")
    (hf_folder / "notes.txt").write_text("private")
    assert open_checkpoint(hf_folder).side_files == {"tokenizer.json": hf_folder / "tokenizer.json"}


@pytest.mark.parametrize("fixture", ["openai_folder", "hf_folder"])
def test_without_an_index_all_safetensors_of_the_folder_belong(fixture: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(fixture)
    digest = open_checkpoint(folder).digest()
    (folder / "model.safetensors.index.json").unlink()
    assert open_checkpoint(folder).digest() == digest


def test_with_an_index_other_files_do_not_belong(openai_folder: Path) -> None:
    (openai_folder / "stale.safetensors").write_bytes(b"")
    assert open_checkpoint(openai_folder).format == "openai"


def test_config_stands_elsewhere(openai_folder: Path, tmp_path: Path) -> None:
    (openai_folder / "config.json").rename(tmp_path / "elsewhere.json")
    message = opening_error(openai_folder)
    assert f"{openai_folder / 'config.json'}: the config is not there. Give its place with --config." in message
    assert open_checkpoint(openai_folder, config=tmp_path / "elsewhere.json").config == tiny_config()


def test_snapshot_of_the_hugging_face_cache_opens(tmp_path: Path) -> None:
    written = write_tiny_checkpoint(tmp_path / "written", format="hf", max_shard_bytes=200_000)
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc123"
    blobs = tmp_path / "models--org--name" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(written.iterdir())):
        shutil.copy(file, blobs / f"hash{number}")
        (snapshot / file.name).symlink_to(f"../../blobs/hash{number}")
    assert open_checkpoint(snapshot).digest() == open_checkpoint(written).digest()
    (tmp_path / "link").symlink_to(snapshot)
    assert open_checkpoint(tmp_path / "link").format == "hf"


# ------------------------------------------------------------------------- what does not


def test_path_that_is_no_checkpoint_folder_is_refused(tmp_path: Path) -> None:
    assert opening_error(tmp_path / "absent") == f"{tmp_path / 'absent'}: there is no such folder or file"
    (tmp_path / "file").touch()
    assert "a checkpoint is a folder or a .msgpack file, but this is neither" in opening_error(tmp_path / "file")
    assert opening_error(tmp_path) == f"{tmp_path}: the folder holds no *.safetensors files"
    (tmp_path / "pytorch_model.bin").touch()
    assert "pickled weights, which are never opened" in opening_error(tmp_path)


def test_folder_without_weights_points_to_its_original(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path / "original", format="openai")
    message = opening_error(tmp_path)
    assert "holds no weights, but its original/ does" in message
    assert f"Open {tmp_path / 'original'} instead." in message


@pytest.mark.parametrize("fixture", ["openai_folder", "hf_folder"])
@pytest.mark.parametrize("has_index", [True, False])
def test_missing_shard_is_named(fixture: str, has_index: bool, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(fixture)
    shards = sorted(folder.glob("*.safetensors"))
    shards[1].unlink()
    if not has_index:
        (folder / "model.safetensors.index.json").unlink()
    message = opening_error(folder)
    assert str(shards[1]) in message
    assert "is missing" in message


def test_missing_first_shard_without_index_shows_by_its_tensors(hf_folder: Path) -> None:
    (hf_folder / "model.safetensors.index.json").unlink()
    sorted(hf_folder.glob("*.safetensors"))[0].unlink()
    message = opening_error(hf_folder)
    assert "model.layers.0.input_layernorm.weight is missing, expected BF16 [96]" in message
    assert "Is a shard missing, or is this the config of another model?" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda whole: whole[:-1], "the file is truncated"),
        (lambda whole: whole[:100], "the file is truncated within its header"),
        (lambda whole: whole + b"\0", "bytes follow the last tensor"),
        (lambda whole: b"", "the file is empty"),
        (lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git-LFS pointer"),
        (lambda whole: b"<!doctype html><title>Not found</title>", "is an HTML page"),
    ],
)
def test_damaged_shard_is_named(openai_folder: Path, content: Callable[[bytes], bytes], words: str) -> None:
    shard = sorted(openai_folder.glob("*.safetensors"))[1]
    shard.write_bytes(content(shard.read_bytes()))
    message = opening_error(openai_folder)
    assert str(shard) in message
    assert words in message


def test_wrong_shape_and_dtype_and_name_are_told_at_once(openai_folder: Path, edit_header: EditHeader) -> None:
    shard = shard_of(openai_folder, "block.0.attn.out.weight")

    def spoil(header: dict[str, Any]) -> None:
        header["block.0.attn.out.weight"]["shape"].reverse()
        header["block.0.attn.out.bias"]["dtype"] = "F16"
        header["block.0.attn.sink"] = header.pop("block.0.attn.sinks")

    edit_header(shard, spoil)
    (openai_folder / "model.safetensors.index.json").unlink()
    message = opening_error(openai_folder)
    assert message.startswith(f"{openai_folder}: 4 problems: ")
    assert (
        f"{shard.name}: block.0.attn.out.weight has the wrong shape, expected BF16 [96, 180], found BF16 [180, 96]"
        in message
    )
    assert f"{shard.name}: block.0.attn.out.bias has the wrong dtype, expected BF16 [96], found F16 [96]" in message
    assert "block.0.attn.sinks is missing, expected BF16 [10]" in message
    assert f"{shard.name}: block.0.attn.sink is no tensor of this geometry" in message


def test_hundreds_of_problems_are_counted_and_the_first_shown(hf_folder: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(tiny_config(hidden_size=160).to_openai()))
    message = opening_error(hf_folder, config=wrong)
    assert "input_layernorm.weight has the wrong shape" in message
    assert message.count("has the wrong shape") == 5
    assert "more. Is this the config of these weights?" in message


def test_config_of_fewer_layers_leaves_tensors_over(hf_folder: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(tiny_config(num_hidden_layers=3).to_openai()))
    assert "model.layers.3.input_layernorm.weight is no tensor of this geometry" in opening_error(
        hf_folder, config=wrong
    )


def test_scales_without_blocks_are_told(openai_folder: Path, edit_header: EditHeader) -> None:
    shard = shard_of(openai_folder, "block.1.mlp.mlp1_weight.blocks")
    edit_header(shard, lambda header: header.update(extra=header.pop("block.1.mlp.mlp1_weight.blocks")))
    (openai_folder / "model.safetensors.index.json").unlink()
    assert "block.1.mlp.mlp1_weight.blocks is missing, expected U8 [7, 128, 3, 16]" in opening_error(openai_folder)


def test_tensor_in_two_files_is_told(openai_folder: Path) -> None:
    (openai_folder / "model.safetensors.index.json").unlink()
    first = sorted(openai_folder.glob("*.safetensors"))[0]
    shutil.copy(first, openai_folder / "copy.safetensors")
    message = opening_error(openai_folder)
    assert "stands in copy.safetensors as well" in message


def test_foreign_tensor_names_are_refused(tmp_path: Path, write_safetensors: Callable[..., Path]) -> None:
    header = {"transformer.wte": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    write_safetensors(tmp_path / "model.safetensors", header, b"1")
    (tmp_path / "config.json").write_text(json.dumps(tiny_config().to_openai()))
    message = opening_error(tmp_path)
    assert "named as in no layout that is known here" in message
    assert "found transformer.wte" in message


# ------------------------------------------------------------------------- the index


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/../../b", "..\\b", "C:\\b", "", "a\0b"])
def test_index_may_not_leave_the_folder(hf_folder: Path, name: str) -> None:
    edit_json(
        hf_folder / "model.safetensors.index.json",
        lambda index: index["weight_map"].update({"lm_head.weight": name}),
    )
    message = opening_error(hf_folder)
    assert f"lm_head.weight is said to be in {name!r}, which is outside the folder" in message


def test_index_may_name_a_subfolder(hf_folder: Path) -> None:
    shard = sorted(hf_folder.glob("*.safetensors"))[0]
    (hf_folder / "part").mkdir()
    shard.rename(hf_folder / "part" / shard.name)

    def move(index: dict[str, Any]) -> None:
        for tensor, name in index["weight_map"].items():
            if name == shard.name:
                index["weight_map"][tensor] = f"part/{name}"

    edit_json(hf_folder / "model.safetensors.index.json", move)
    assert open_checkpoint(hf_folder).format == "hf"


def test_index_and_files_must_agree(hf_folder: Path) -> None:
    shards = sorted(path.name for path in hf_folder.glob("*.safetensors"))

    def spoil(index: dict[str, Any]) -> None:
        index["weight_map"]["ghost"] = shards[0]
        index["weight_map"]["lm_head.weight"] = shards[0]
        del index["weight_map"]["model.norm.weight"]

    edit_json(hf_folder / "model.safetensors.index.json", spoil)
    message = opening_error(hf_folder)
    assert f"{shards[0]}: ghost is missing, though the index places it there" in message
    assert f"{shards[-1]}: the index places lm_head.weight in {shards[0]} instead" in message
    assert f"{shards[-1]}: the index does not list model.norm.weight" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "the index is not valid JSON"),
        ("[]", "the index is not a JSON object"),
        ("{}", "the index has no weight_map"),
        ('{"weight_map": {"a": 3}}', "the index has no weight_map of tensor name → file name"),
        ('{"weight_map": {"a": "x", "a": "y"}}', "the key 'a' stands there twice"),
        ('{"weight_map": {}}', "the index lists no tensors"),
    ],
)
def test_unreadable_index_is_refused(hf_folder: Path, content: str, words: str) -> None:
    (hf_folder / "model.safetensors.index.json").write_text(content)
    assert words in opening_error(hf_folder)


@pytest.mark.parametrize("name", ["shard", "tokenizer.json", "model.safetensors.index.json"])
def test_symbolic_link_out_of_the_folder_is_refused(hf_folder: Path, tmp_path: Path, name: str) -> None:
    shard = sorted(hf_folder.glob("*.safetensors"))[0]
    place, outside = shard if name == "shard" else hf_folder / name, tmp_path / "outside"
    if place.exists():
        place.rename(outside)
    else:
        outside.write_text("{}")
    place.symlink_to(outside)
    message = opening_error(hf_folder)
    assert f"{place}: the symbolic link leads out of the folder; found {outside}" in message
    assert "Put the file itself there." in message


def test_symbolic_link_within_the_folder_is_followed(hf_folder: Path) -> None:
    shard = sorted(hf_folder.glob("*.safetensors"))[0]
    shard.rename(hf_folder / "renamed")
    shard.symlink_to("renamed")
    assert open_checkpoint(hf_folder).format == "hf"


def test_zeroth_shard_is_named_where_its_tensors_are_missing(hf_folder: Path) -> None:
    (hf_folder / "model.safetensors.index.json").unlink()
    shard = min(hf_folder.glob("*.safetensors"))
    assert shard.name.startswith("model-00000-of-")
    shard.unlink()
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(hf_folder)
    assert f"problems: {shard.name}: the shard is missing; " in str(error.value)


@pytest.mark.parametrize("count", [1, 2])
def test_path_out_of_the_folder_asks_for_another_index(hf_folder: Path, count: int) -> None:
    index = hf_folder / "model.safetensors.index.json"
    weight_map = {
        "lm_head.weight": "../secret.safetensors",
        "model.norm.weight": min(hf_folder.glob("*.safetensors")).name,
    }
    index.write_text(json.dumps({"weight_map": dict(list(weight_map.items())[:count])}))
    with pytest.raises(CheckpointError, match=r"outside the folder\. Correct the index, or download it again\.$"):
        open_checkpoint(hf_folder)


def test_one_damaged_file_ends_in_one_next_step(hf_folder: Path) -> None:
    shard = min(hf_folder.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(hf_folder)
    assert str(error.value).startswith(f"{shard}: the file is truncated")
    assert str(error.value).endswith(" bytes. Download it again.")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_web_page_as_json_is_called_so(hf_folder: Path, name: str) -> None:
    (hf_folder / name).write_text("<!DOCTYPE html><html>Sign in</html>")
    with pytest.raises(CheckpointError, match=rf"{name}: the file is an HTML page, not the (config|index)\. Download"):
        open_checkpoint(hf_folder)
