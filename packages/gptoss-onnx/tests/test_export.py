import json
import shutil
import subprocess
import sys

import onnx
import pytest
from gptoss_onnx import OnnxModel, export_onnx, plan_export
from gptoss_onnx.source_digest import source_digest
from gptoss_weights import CheckpointError, open_checkpoint, random_checkpoint, save_checkpoint, trimmed
from gptoss_weights.demo import demo_checkpoint
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint


def test_in_place_nothing_but_the_graph_is_written(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "checkpoint", format="openai", max_shard_bytes=100_000)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert export_onnx(open_checkpoint(folder), folder) == folder
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert after.keys() - before.keys() == {"model.onnx"}
    assert {name: after[name] for name in before} == before
    assert OnnxModel.open(folder).generate([[1, 2]], max_new_tokens=1)


def test_a_folder_above_the_checkpoint_is_in_place_too(tmp_path):
    (tmp_path / "repository").mkdir()
    folder = write_tiny_checkpoint(tmp_path / "repository" / "original", format="openai")
    export_onnx(open_checkpoint(folder), folder.parent)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model.onnx", "original"]
    assert OnnxModel.open(folder.parent).generate([[1, 2]], max_new_tokens=1)


def test_elsewhere_the_folder_runs_alone_after_a_move(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(demo_checkpoint().stored("lm_head.weight").path.parent, source)
    exported = export_onnx(open_checkpoint(source), tmp_path / "exported")
    shutil.rmtree(source)
    moved = exported.rename(tmp_path / "moved")
    assert {"config.json", "generation_config.json", "model.onnx", "tokenizer.json"} <= {
        p.name for p in moved.iterdir()
    }
    assert OnnxModel.open(moved).generate([[1, 2]], max_new_tokens=1)


@pytest.mark.parametrize("layout", ["openai", "hf", "computed"])
def test_the_exported_folder_is_itself_the_same_checkpoint(layout, tmp_path):
    source = random_checkpoint(tiny_config(), seed=1)
    digest, samples = source.digest(), source_digest(source)
    if layout != "computed":
        save_checkpoint(source, tmp_path / "saved", format=layout, max_shard_bytes=100_000)
        source = open_checkpoint(tmp_path / "saved")
    exported = export_onnx(source, tmp_path / "exported")
    assert open_checkpoint(exported).digest() == digest
    assert OnnxModel.open(exported).metadata.source_digest == samples


def test_metadata_says_where_the_model_comes_from(exported, checkpoint):
    metadata = OnnxModel.open(exported).metadata
    assert metadata.config == checkpoint.config
    assert metadata.source_format == checkpoint.format
    assert {"gptoss-onnx", "gptoss-weights", "onnx"} <= metadata.versions.keys()


def test_stop_ids_travel_with_the_model(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "checkpoint", format="hf")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    export_onnx(open_checkpoint(folder), folder)
    assert OnnxModel.open(folder).metadata.eos_token_ids == (7, 9)


def test_the_checker_and_the_loader_of_onnx_accept_the_model(exported):
    onnx.checker.check_model(exported / "model.onnx", full_check=True)
    loaded = onnx.load(exported / "model.onnx")
    assert not any(t.data_location == onnx.TensorProto.EXTERNAL for t in loaded.graph.initializer)


def test_a_model_is_not_overwritten(copied, checkpoint):
    source = open_checkpoint(copied)
    with pytest.raises(CheckpointError, match=r"there is a model\.onnx already"):
        export_onnx(source, copied)


def test_an_occupied_folder_is_left_alone(checkpoint, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="not an empty folder"):
        export_onnx(checkpoint, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_missing_parent_is_named(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: the folder to write into does not exist"):
        export_onnx(checkpoint, tmp_path / "nowhere" / "output")


def test_a_failed_export_leaves_nothing_behind(checkpoint, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise onnx.checker.ValidationError("not today")

    monkeypatch.setattr(onnx.checker, "check_model", fail)
    with pytest.raises(onnx.checker.ValidationError):
        export_onnx(checkpoint, tmp_path / "output")
    assert list(tmp_path.iterdir()) == []


def test_planning_writes_nothing_and_counts_what_would_be(checkpoint, tmp_path):
    plan = plan_export(checkpoint, tmp_path / "output")
    assert plan.files.bytes_to_write == sum(path.stat().st_size for path in plan.files.copies.values()) > 0
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told_file_by_file(checkpoint, tmp_path):
    told = []
    export_onnx(checkpoint, tmp_path / "output", progress=told.append)
    assert told[-1] == "wrote model.onnx"
    assert len(told) == 1 + len(list((tmp_path / "output").glob("*.safetensors")))


def test_an_export_in_place_copies_no_weights_into_memory(tmp_path):
    """15 MB of weights; the export may take the anonymous memory of its graph, and not theirs."""
    folder = write_tiny_checkpoint(
        tmp_path / "checkpoint",
        format="hf",
        num_experts=32,
        hidden_size=512,
        intermediate_size=512,
        num_hidden_layers=1,
    )
    script = f"""
from gptoss_onnx import export_onnx
from gptoss_weights import open_checkpoint
checkpoint = open_checkpoint({str(folder)!r})
anonymous = lambda: next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon")) // 1024
import gptoss_onnx.export
before = anonymous()
export_onnx(checkpoint, {str(folder)!r})
print(anonymous() - before)
"""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors")) >> 20
    grown = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    assert weights > 10
    assert grown < weights / 2


@pytest.mark.parametrize("layout", ["flax", "hf-bf16"])
@pytest.mark.parametrize("profile", ["portable", "fast"])
def test_plain_experts_of_any_format_are_exported_as_they_are(layout, profile, request, tmp_path, relative_l2):
    if profile == "fast":
        request.getfixturevalue("fast_runtime")
    packed = random_checkpoint(tiny_config(head_dim=32), seed=1)
    place = tmp_path / ("model.msgpack" if layout == "flax" else "model")
    save_checkpoint(packed, place, format=layout)
    source = open_checkpoint(place)
    tokens = [list(range(30))]
    expected = OnnxModel.open(export_onnx(packed, tmp_path / "packed")).forward(tokens)
    model = OnnxModel.open(export_onnx(source, tmp_path / "plain", profile=profile))
    assert model.metadata.recipe.experts == ("stored" if profile == "portable" else "float32")
    assert relative_l2(model.forward(tokens), expected) <= 2e-6


def test_a_view_of_the_first_layers_and_experts_refers_to_the_same_files(checkpoint_folder, tmp_path):
    shutil.copytree(checkpoint_folder, tmp_path / "checkpoint")
    view = trimmed(open_checkpoint(tmp_path / "checkpoint"), layers=2, experts=4)
    export_onnx(view, tmp_path / "checkpoint")
    in_place = OnnxModel.open(tmp_path / "checkpoint").generate([[1, 2, 3]], max_new_tokens=5)
    assert in_place == OnnxModel.open(export_onnx(view, tmp_path / "copied")).generate([[1, 2, 3]], max_new_tokens=5)


def test_an_interrupted_fast_export_leaves_nothing_and_runs_again_to_the_same_bytes(tmp_path, monkeypatch):
    source = random_checkpoint(tiny_config(head_dim=32), seed=1)
    first = export_onnx(source, tmp_path / "first", profile="fast")
    with monkeypatch.context() as patch:
        patch.setattr("gptoss_onnx.export.sync_tree", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            export_onnx(source, tmp_path / "second", profile="fast")
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    second = export_onnx(source, tmp_path / "second", profile="fast")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
