import json

import pytest
from click.testing import CliRunner
from gptoss_train.cli import main
from gptoss_weights import GPT_OSS_20B


def run(*arguments: object, code: int = 0) -> str:
    """What a command prints."""
    result = CliRunner().invoke(main, [str(part) for part in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


@pytest.mark.parametrize("method", ["finetune", "lora"])
@pytest.mark.parametrize("overrides", [[], ["model=demo"], ["model=nowhere", "geometry={}"]])
def test_what_the_command_refuses_its_plan_refuses_in_the_same_words(method, overrides, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = run(method, "tiny", *overrides, code=3)
    assert run(method, "tiny", *overrides, "--dry-run", code=3) == refused
    assert run("plan", "tiny", *overrides, "--method", method, code=3) == refused


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"source": "synthetic"}, "data: sft trains on conversations; expected source jsonl or huggingface"),
        ({"source": "text", "files": "[a.txt]"}, "sft trains on conversations"),
        ({"source": "jsonl", "files": "[a.jsonl]", "format": "text"}, "sft trains on conversations"),
        ({"source": "jsonl", "files": "[a.jsonl]", "overlong": "split"}, "a conversation cannot be split"),
    ],
)
def test_data_that_sft_refuses_its_plan_refuses_in_the_same_words(data, words):
    overrides = ["model=demo", "geometry={}", *(f"data.{key}={value}" for key, value in data.items())]
    refused = run("sft", "tiny", *overrides, code=3)
    assert words in refused
    assert run("sft", "tiny", *overrides, "--dry-run", code=3) == refused
    assert run("plan", "tiny", *overrides, "--method", "sft", code=3) == refused


def test_conversations_are_planned_for_sft():
    overrides = ["model=demo", "geometry={}", "data.source=jsonl", "data.files=[a.jsonl]"]
    assert run("plan", "tiny", *overrides, "--method", "sft").startswith("sft: ")


def test_weights_of_a_geometry_of_its_own_are_planned_as_new_ones(tmp_path):
    assert run("plan", "tiny").startswith("pretrain: ")
    assert run("plan", "20b").startswith("finetune: ")
    (tmp_path / "config.json").write_text(json.dumps(GPT_OSS_20B.to_openai()))
    assert run("plan", "20b", f"model={tmp_path / 'config.json'}").startswith("pretrain: ")


def test_json_has_what_a_device_would_hold_without_each_axis():
    plan = json.loads(run("plan", "20b", "run.mesh=fsdp=2,tensor=2", "batch_size=64", "--json"))
    assert {name: axis["size"] for name, axis in plan["axes"].items()} == {"fsdp": 2, "tensor": 2}
    whole = json.loads(run("plan", "20b", "run.mesh=tensor=2", "batch_size=64", "--json"))
    assert plan["axes"]["fsdp"]["without"]["device_bytes"] == whole["device_bytes"] > plan["device_bytes"]
