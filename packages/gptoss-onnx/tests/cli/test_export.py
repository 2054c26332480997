import shutil

import pytest
from gptoss_onnx import OnnxModel, export_onnx
from gptoss_weights import probe_specs, random_checkpoint
from gptoss_weights.cli_errors import ExitCode
from gptoss_weights.testing import tiny_config


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


def test_the_first_layers_alone_are_a_view_that_stays_in_place(run_command, checkpoint_folder, tmp_path):
    shutil.copytree(checkpoint_folder, tmp_path / "checkpoint")
    result = run_command("export", tmp_path / "checkpoint", tmp_path / "checkpoint", "--layers", 2, "--validate")
    assert result.exit_code == ExitCode.OK, result.stderr
    assert "0 bytes of weights copied" in result.stdout
    assert "validated: relative L2 of logits" in result.stdout
    assert OnnxModel.open(tmp_path / "checkpoint").config.num_hidden_layers == 2


def test_too_many_layers_are_a_usage_error(run_command, checkpoint_folder, tmp_path):
    result = run_command("export", checkpoint_folder, tmp_path / "onnx", "--layers", 9)
    assert result.exit_code == ExitCode.USAGE
    assert "of 4 layers, between 1 and all can be kept, not 9" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--profile", "fast"],
        ["--profile", "fast", "--dense", "int8"],
        ["--profile", "fast", "--dense", "int4"],
        ["--profile", "fast", "--experts", "mxfp4"],
        ["--experts", "int8", "--dense", "float32"],
        ["--sequence-length", 9, "--batch-size", 2],
        ["--link-weights"],
    ],
    ids=str,
)
def test_every_form_validates(request, run_command, checkpoint_folder, tmp_path, options):
    if "fast" in options:
        request.getfixturevalue("fast_runtime")
    if "--link-weights" in options:
        request.getfixturevalue("linking_runtime")
    result = run_command("export", checkpoint_folder, tmp_path / "onnx", "--validate", *options)
    assert result.exit_code == ExitCode.OK, result.stderr
    assert "validated" in result.stdout


def test_a_wrong_export_fails_its_validation(run_command, checkpoint_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("gptoss_onnx.graph.experts.SWIGLU_ALPHA", 1.5)
    result = run_command("export", checkpoint_folder, tmp_path / "onnx", "--validate")
    assert result.exit_code == ExitCode.PARITY_FAILED
    assert "does not compute what the checkpoint says; expected logits within relative L2 0.0001" in result.stderr


def test_fast_says_that_it_uses_the_manual_attention_where_the_operator_declines(
    run_command, checkpoint_folder, tmp_path
):
    result = run_command("export", checkpoint_folder, tmp_path / "onnx", "--profile", "fast", "--dry-run")
    assert "note: attention is in ONNX's own operators" in result.stderr
    assert "multiples of 16, not 18" in result.stderr


def test_linked_weights_stay_where_they_are(linking_runtime, run_command, checkpoint_folder, tmp_path):
    shutil.copytree(checkpoint_folder, tmp_path / "checkpoint")
    result = run_command("export", tmp_path / "checkpoint", tmp_path / "onnx", "--link-weights")
    assert f"linked to {tmp_path / 'checkpoint'}" in result.stdout
    assert not list((tmp_path / "onnx").glob("*.safetensors"))
    options = ["--tokens", "1,2,3", "--max-new-tokens", 2, "--json"]
    here = run_command("run", tmp_path / "onnx", *options)
    assert here.exit_code == ExitCode.OK, here.stderr
    (tmp_path / "checkpoint").rename(tmp_path / "gone")
    result = run_command("run", tmp_path / "onnx", *options)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert f"The weights were linked to in {tmp_path / 'checkpoint'}: put them there again" in result.stderr


def test_weights_that_must_be_computed_cannot_be_linked_to(run_command, checkpoint_folder, tmp_path):
    result = run_command("export", checkpoint_folder, tmp_path / "onnx", "--link-weights", "--profile", "fast")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "cannot be linked to where some of them have to be computed" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batch-size", 2], "--batch-size belongs to --sequence-length"),
        (["--layer", 2], "--layer belongs to --component"),
        (["--component", "mlp", "--emit", "hidden-states"], "--component has one output"),
        (["--component", "mlp", "--layer", 4], "the first is 0, the last 3"),
        (["--component", "mlp", "--sequence-length", 4], "a component takes any shape"),
        (["--profile", "fast", "--sequence-length", 4], "only profile portable has static shapes, not fast"),
        (["--dense", "int8"], "profile portable takes dense stored or float32, not int8"),
        (["--profile", "cuda", "--experts", "int8"], "profile cuda takes experts mxfp4, not int8"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(run_command, checkpoint_folder, tmp_path, options, words):
    result = run_command("export", checkpoint_folder, tmp_path / "onnx", *options)
    assert result.exit_code == ExitCode.USAGE
    assert words in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_component_is_said_to_be_no_model(run_command, checkpoint_folder, tmp_path):
    result = run_command("export", checkpoint_folder, tmp_path / "mlp", "--component", "mlp", "--layer", 1)
    assert result.exit_code == ExitCode.OK, result.stderr
    result = run_command("run", tmp_path / "mlp", "--tokens", "1")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "this is one part of a model, mlp of layer 1, and no model" in result.stderr


def test_a_request_beyond_a_static_export_is_one_sentence(run_command, checkpoint_folder, tmp_path):
    run_command("export", checkpoint_folder, tmp_path / "onnx", "--sequence-length", 8)
    result = run_command("run", tmp_path / "onnx", "--tokens", "1,2,3", "--max-new-tokens", 6)
    assert result.exit_code == ExitCode.USAGE
    assert "3 tokens and 6 new ones make 9, more than this export can take; expected at most 8" in result.stderr
    assert run_command("run", tmp_path / "onnx", "--tokens", "1,2,3", "--max-new-tokens", 5).exit_code == ExitCode.OK


@pytest.mark.parametrize("options", [[], ["--stream"]])
def test_a_request_beyond_the_positions_of_a_fast_export_is_refused_before_it_is_begun(
    fast_runtime, run_command, tmp_path, options
):
    config = tiny_config(num_hidden_layers=2, head_dim=16, initial_context_length=20, rope_scaling_factor=1.0)
    export_onnx(random_checkpoint(config, seed=1), tmp_path / "onnx", profile="fast")
    result = run_command("run", tmp_path / "onnx", "--tokens", "1,2,3", "--max-new-tokens", 64, *options)
    assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
    assert "expected at most 20, prompt and answer together" in result.stderr
    assert "answers get worse" not in result.stderr
