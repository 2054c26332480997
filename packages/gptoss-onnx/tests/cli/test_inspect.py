import json

from gptoss_onnx import StaticShape, export_onnx
from gptoss_onnx.source_digest import source_digest
from gptoss_weights.cli_errors import ExitCode


def test_inspect_says_what_the_export_is_and_what_goes_in_and_out(run_command, exported, checkpoint):
    result = run_command("inspect", exported, "--operators")
    assert result.exit_code == ExitCode.OK
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert ["profile", "portable"] in lines
    assert ["modes", "exact"] in lines
    assert ["input", "input_ids [batch, sequence]"] in lines
    assert ["Loop", str(checkpoint.config.num_hidden_layers)] in lines


def test_json_has_all_of_it(run_command, exported, checkpoint):
    document = json.loads(run_command("inspect", exported, "--json").stdout)
    assert document["config"] == checkpoint.config.numbers()
    assert document["source_digest"] == source_digest(checkpoint)
    assert document["recipe"]["profile"] == "portable"
    assert document["opsets"] == {"ai.onnx": 21}
    assert document["weight_bytes"].keys() == {path.name for path in exported.glob("*.safetensors")}
    assert document["outputs"]["logits"] == ["batch", "kept", checkpoint.config.vocab_size]
    assert document["problems"] == []


def test_static_shapes_and_parts_are_named(run_command, checkpoint, tmp_path):
    static = export_onnx(checkpoint, tmp_path / "static", static=StaticShape(batch=2, length=9))
    assert "batch 2, 9 tokens" in run_command("inspect", static).stdout
    part = export_onnx(checkpoint, tmp_path / "part", component="mlp", layer=3)
    stdout = run_command("inspect", part).stdout
    assert "mlp of layer 3" in stdout
    assert "none: this is a part of a model" in stdout


def test_a_weight_file_that_is_gone_is_bad_input_and_the_rest_is_still_shown(run_command, copied):
    weights = sorted(copied.glob("*.safetensors"))[0]
    weights.unlink()
    result = run_command("inspect", copied)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert f"{weights.name} is missing" in result.stderr
    assert "portable" in result.stdout


def test_a_folder_without_a_model_is_bad_input(run_command, tmp_path):
    result = run_command("inspect", tmp_path)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "there is no model.onnx" in result.stderr
