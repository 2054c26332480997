import json

import pytest
from click.testing import CliRunner
from gptoss_model.cli import main
from gptoss_model.sharding.memory import memory_per_device
from gptoss_weights import GPT_OSS_20B
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint


def plan(*arguments):
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


def test_json_has_the_bytes_of_each_device():
    result = plan("gpt-oss-20b", "--mesh", "tensor=8", "--batch", "4", "--length", "8192", "--json")
    document, expected = json.loads(result.stdout), memory_per_device(GPT_OSS_20B, "tensor=8", batch=4, length=8192)
    assert (document["mesh"], document["devices"]) == ("tensor=8", 8)
    assert document["per_device"] == {
        "expert_matrices_bytes": expected.experts,
        "other_parameters_bytes": expected.other_parameters,
        "kv_cache_bytes": expected.kv_cache,
        "gathered_by_fsdp_bytes": 0,
        "total_bytes": expected.total,
    }


def test_checkpoint_and_its_config_alone_give_the_same_plan(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "tiny", format="hf")
    whole, alone = plan(folder, "--dtype", "float32"), plan(folder / "config.json", "--dtype", "float32")
    assert whole.output == alone.output
    assert "one device, mesh data=1" in alone.output
    total = memory_per_device(tiny_config(), "data=1", batch=1, length=4096, dtype="float32").total
    assert f"{total:,}" in alone.output


@pytest.mark.parametrize(("gib", "code"), [(15, 6), (16, 0)])
def test_what_does_not_fit_ends_with_exit_code_six(gib, code):
    result = plan("gpt-oss-20b", "--length", "131072", "--device-memory", gib)
    assert result.exit_code == code
    assert ("a device needs 15.8" in result.stderr) == (code == 6), result.stderr


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ("tensor=3", "axis NH of 64 query heads over tensor=3; 2 or 4 would divide"),
        ("data=-1", "how many there are is not known here"),
        ("tensors=2", "did you mean 'tensor'?"),
    ],
)
def test_mesh_that_cannot_be_is_a_usage_error(rules, words):
    result = plan("gpt-oss-20b", "--mesh", rules)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


@pytest.mark.parametrize(("length", "warned"), [(131072, False), (131073, True)])
def test_more_positions_than_the_model_has_been_trained_on_are_planned_with_a_warning(length, warned):
    result = plan("gpt-oss-20b", "--length", length)
    assert result.exit_code == 0
    words = "warning: --length 131073 is more than the 131072 positions that the checkpoint is meant for\n"
    assert result.stderr == (words if warned else "")
