import pytest
from gptoss_onnx import OnnxModel
from gptoss_weights import probe_specs
from gptoss_weights.cli_errors import ExitCode


def test_export_says_what_it_wrote(run_command, checkpoint_folder, tmp_path):
    result = run_command("export", checkpoint_folder, tmp_path / "onnx")
    assert result.exit_code == ExitCode.OK, result.output
    assert f"wrote {tmp_path / 'onnx' / 'model.onnx'}" in result.stdout
    assert result.stderr == ""
    assert OnnxModel.open(tmp_path / "onnx").metadata.probes == ()


def test_a_dry_run_says_the_same_and_writes_nothing(run_command, checkpoint_folder, tmp_path):
    result = run_command("export", checkpoint_folder, tmp_path / "onnx", "--dry-run")
    assert result.exit_code == ExitCode.OK
    assert f"would write {tmp_path / 'onnx' / 'model.onnx'}" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_in_place_weights_are_said_to_stay(run_command, checkpoint_folder):
    result = run_command("export", checkpoint_folder, checkpoint_folder, "--dry-run")
    assert "in place" in result.stdout
    assert "0 bytes of weights copied" in result.stdout


def test_emitting_hidden_states_makes_them_outputs(run_command, checkpoint_folder, tmp_path, checkpoint):
    run_command("export", checkpoint_folder, tmp_path / "onnx", "--emit", "hidden-states")
    layers = [
        f"layers.{layer}.{probe}"
        for layer in range(checkpoint.config.num_hidden_layers)
        for probe in ("attention_residual", "output")
    ]
    assert OnnxModel.open(tmp_path / "onnx").metadata.probes == ("embedding", *layers, "final_norm")


def test_block_debug_makes_every_probe_inside_the_layers_an_output(
    run_command, checkpoint_folder, tmp_path, checkpoint
):
    run_command("export", checkpoint_folder, tmp_path / "debug", "--emit", "block-debug")
    layers = [name for name in probe_specs(checkpoint.config, 1, block_debug=True) if name.startswith("layers.")]
    assert OnnxModel.open(tmp_path / "debug").metadata.probes == tuple(layers)
    run_command("export", checkpoint_folder, tmp_path / "both", "--emit", "hidden-states,block-debug")
    assert OnnxModel.open(tmp_path / "both").metadata.probes == ("embedding", *layers, "final_norm")


def test_an_unknown_kind_of_output_is_a_usage_error(run_command, checkpoint_folder, tmp_path):
    result = run_command("export", checkpoint_folder, tmp_path / "onnx", "--emit", "hidden-states,attention")
    assert result.exit_code == ExitCode.USAGE
    assert "'attention' is not one of hidden-states, block-debug" in result.stderr


def test_the_config_may_stand_elsewhere(run_command, checkpoint_folder, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in checkpoint_folder.iterdir():
        (bare / path.name).write_bytes(path.read_bytes())
    config = (bare / "config.json").rename(tmp_path / "config.json")
    assert run_command("export", bare, tmp_path / "onnx").exit_code == ExitCode.BAD_INPUT
    assert run_command("export", bare, tmp_path / "onnx", "--config", config).exit_code == ExitCode.OK


@pytest.mark.parametrize("target", ["exported", "checkpoint"])
def test_what_is_there_is_not_overwritten(run_command, target, exported, checkpoint_folder):
    folders = {"exported": (checkpoint_folder, exported), "checkpoint": (exported, exported)}
    result = run_command("export", *folders[target])
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "there is a model.onnx already" in result.stderr
