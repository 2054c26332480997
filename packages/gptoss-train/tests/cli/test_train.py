import json

import pytest
import yaml
from click.testing import CliRunner
from gptoss_train.cli import main


def run(*arguments: object, code: int = 0) -> str:
    """What a command prints."""
    result = CliRunner().invoke(main, [str(part) for part in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def test_print_config_shows_every_key_and_reads_back(tmp_path):
    printed = run("pretrain", "tiny", "steps=17", "--print-config")
    (tmp_path / "again.yaml").write_text(printed)
    assert yaml.safe_load(printed)["steps"] == 17
    assert run("pretrain", tmp_path / "again.yaml", "--print-config") == printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pretrain", "tiny", "steps=0"], "steps: expected 1 or more"),
        (["pretrain", "tiny", "stepz=3"], "the nearest is 'steps'"),
        (["pretrain", "nowhere.yaml"], "there is no such config"),
        (["finetune", "20b"], "needs weights"),
        (["finetune", "tiny", "model=demo"], "geometry of a checkpoint cannot be changed"),
        (["sft", "tiny"], "sft trains on conversations"),
        (["pretrain", "tiny", "run.mesh=tensor=3"], "does not divide"),
        (["pretrain", "tiny", "frozen=[model.embed.*]"], "frozen: no parameter has such a name"),
        (["export", "nowhere", "out"], "no run that was saved"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = run(*arguments, code=3)
    assert words in output
    assert output.startswith("error: ")
    assert len(output.strip().splitlines()) == 1


def test_dry_run_and_plan_say_the_same():
    plan = run("plan", "20b", "--method", "lora")
    assert run("lora", "20b", "--dry-run") == plan
    numbers = json.loads(run("plan", "20b", "--method", "lora", "--json"))
    assert numbers["parameters"] == 20_914_757_184
    assert "not enough" not in run("plan", "20b", "--method", "lora", "--device-memory", "40")
    assert "a device needs" in run("plan", "20b", "--device-memory", "40", code=6)


def test_doctor_names_features_that_are_missing():
    found = json.loads(run("doctor", "--json"))
    assert found["devices"]
    features = {feature["name"] for feature in found["features"]}
    assert features == {"datasets", "gcs", "tensorboard", "wandb"}


def test_evaluate_says_which_samples_were_not_measured_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    small = ["model=demo", "geometry={}", "batch_size=2", "sequence_length=16", "data.take=6", "data.overlong=cut"]
    found = json.loads(run("evaluate", "tiny", *small, "--json"))
    assert found["samples"] == 6
    assert found["samples_cut"] > 0 == found["samples_dropped"] == found["samples_without_loss"]
    printed = run("evaluate", "tiny", *small)
    assert f"\n6 samples of 6 records; {found['samples_cut']} cut, 0 dropped, 0 with nothing to learn\n" in printed


@pytest.mark.slow
def test_from_new_weights_to_a_merged_adapter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    small = [
        "geometry.num_hidden_layers=2",
        "steps=4",
        "optimizer.warmup_steps=0",
        "batch_size=4",
        "sequence_length=64",
    ]
    held = ["evaluation.data={source: synthetic, synthetic: {records: 8, longest: 60}, take: 8}", "evaluation.every=2"]
    printed = run("pretrain", "tiny", *small, *held, "run_name=new")
    assert "runs/new: 4 of 4 steps" in printed
    assert "held out" in printed
    assert " records; 0 cut, 0 dropped, 0 with nothing to learn\n" in printed
    assert "held out: 8 samples of 8 records; 0 cut, 0 dropped, 0 with nothing to learn\n" in printed
    assert (tmp_path / "runs/new/report.html").exists()
    report = json.loads(run("export", "runs/new", "home", "--format", "openai", "--json"))
    assert report["quantized_tensors"] == 4
    assert 0 < report["relative_l2"] < 0.2
    assert "ends with .msgpack" in run("export", "runs/new", "bundle", "--format", "flax", code=2)
    tuned = [*small[1:], "model=home", "geometry={}", "lora.rank=2"]
    assert "audit: 24 trained parameters" in run("lora", "tiny", *tuned, "run_name=adapted")
    run("merge", "runs/adapted", "merged", "--format", "hf-bf16")
    run("merge", "runs/adapted", "adapter", "--format", "peft")
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["r"] == 2
    losses = [
        json.loads(run("evaluate", "tiny", *tuned, *extra, "--json"))["loss"]
        for extra in (["data.take=8"], ["data.take=8", "--run", "runs/adapted"], ["data.take=8", "model=merged"])
    ]
    assert losses[1] < losses[0]
    assert losses[2] == pytest.approx(losses[1], rel=1e-3)
