"""The command with a config as `gptoss_train.config.load_config` gives it: what it takes of it, prints and writes."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import CliRunner
from gptoss_train.cli import main
from gptoss_train.data import DataConfig, HuggingFaceConfig
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH

PAIRS = [{"question": "Who?", "answer": "Me."}, {"question": "Where?", "answer": "Here."}]


@pytest.fixture
def run(tmp_path, monkeypatch):
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(f"{json.dumps(pair)}\n" for pair in PAIRS))

    def run_command(*arguments, **changes):
        values = {
            "data": DataConfig(source="jsonl", files=(str(data),)),
            "model": str(DEMO_CHECKPOINT_PATH),
            "tokenizer": None,
            "sequence_length": 300,
            "batch_size": 2,
            "seed": 1,
        }
        config = ModuleType("gptoss_train.config")
        config.load_config = lambda path, overrides: SimpleNamespace(**(values | changes), asked=(path, overrides))
        monkeypatch.setitem(sys.modules, "gptoss_train.config", config)
        monkeypatch.chdir(tmp_path)
        return CliRunner().invoke(main, ["preview", "sft.yaml", *arguments])

    return run_command


def test_it_writes_the_page_and_says_what_is_on_it(run, tmp_path):
    result = run()
    assert result.exit_code == 0, result.output
    assert "2 samples of 2 records" in result.output
    assert "Training data of sft.yaml" in (tmp_path / "preview.html").read_text()


def test_json_holds_the_statistics(run, tmp_path):
    result = run("--json", "--output", str(tmp_path / "sub" / "x.html"))
    printed = json.loads(result.stdout)
    assert printed["samples"] == 2
    assert 0 < printed["trained_share"] < 1
    assert (tmp_path / "sub" / "x.html").is_file()


def test_a_missing_file_is_bad_input(run):
    result = run(data=DataConfig(source="jsonl", files=("nowhere.jsonl",)))
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
    assert "nowhere.jsonl: there is no such file" in result.stderr


def test_a_missing_library_is_a_missing_dependency(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    result = run(data=DataConfig(source="huggingface", huggingface=HuggingFaceConfig(name="owner/name")))
    assert result.exit_code == 5
    assert "pip install 'gptoss-train[datasets]'" in result.stderr


def test_a_published_model_needs_no_checkpoint_but_a_tokenizer(run):
    tokenizer = str(DEMO_CHECKPOINT_PATH / "tokenizer.json")
    assert run(model="gpt-oss-20b", tokenizer=tokenizer).exit_code == 0
    result = run(model="gpt-oss-20b")
    assert result.exit_code == 3
    assert "there is no tokenizer.json" in result.stderr


def test_synthetic_sequences_need_no_tokenizer(run):
    assert run(model="gpt-oss-20b", data=DataConfig()).exit_code == 0
