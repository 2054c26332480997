"""The command on real configs: what it prints and writes, and how it fails."""

import json
import sys

import pytest
from click.testing import CliRunner
from gptoss_train.cli import main
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH

PAIRS = [{"question": "Who?", "answer": "Me."}, {"question": "Where?", "answer": "Here."}]
CONFIG = """\
model: demo
sequence_length: 300
batch_size: 2
data:
  source: jsonl
  files: [pairs.jsonl]
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in PAIRS))
    (tmp_path / "sft.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["preview", *arguments])


def test_it_writes_the_page_and_says_what_is_on_it(run, tmp_path):
    result = run("sft.yaml")
    assert result.exit_code == 0, result.output
    assert "2 samples of 2 records" in result.output
    assert "Training data of sft.yaml" in (tmp_path / "preview.html").read_text()


def test_json_holds_the_statistics(run, tmp_path):
    result = run("sft.yaml", "--json", "--output", "sub/x.html")
    printed = json.loads(result.stdout)
    assert printed["samples"] == 2
    assert 0 < printed["trained_share"] < 1
    assert (tmp_path / "sub" / "x.html").is_file()


def test_overrides_count_more_than_the_file(run):
    def rows(packing):
        return json.loads(run("sft.yaml", "sequence_length=400", f"data.packing={packing}", "--json").stdout)["rows"]

    assert (rows("none"), rows("best_fit")) == (2, 1)
    assert json.loads(run("sft.yaml", "data.take=1", "--json").stdout)["samples"] == 1


def test_a_missing_file_is_bad_input(run):
    result = run("sft.yaml", "data.files=[nowhere.jsonl]")
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
    assert "nowhere.jsonl: there is no such file" in result.stderr


def test_a_malformed_record_is_bad_input_with_its_line(run, tmp_path):
    with (tmp_path / "pairs.jsonl").open("a") as stream:
        stream.write('{"question": "a"}\n')
    result = run("sft.yaml")
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
    assert "pairs.jsonl:3" in result.stderr
    assert not (tmp_path / "preview.html").exists()


def test_a_key_that_cannot_be_is_bad_input(run):
    result = run("sft.yaml", "data.epochs=0")
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
    assert "data.epochs: expected null, or 1 or more, found 0" in result.stderr


def test_a_missing_library_is_a_missing_dependency(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    result = run("sft.yaml", "data.source=huggingface", "data.files=[]", "data.huggingface.name=owner/name")
    assert result.exit_code == 5
    assert "pip install 'gptoss-train[datasets]'" in result.stderr


def test_a_published_model_needs_no_checkpoint_but_a_tokenizer(run):
    tokenizer = f"tokenizer={DEMO_CHECKPOINT_PATH / 'tokenizer.json'}"
    assert run("sft.yaml", "model=gpt-oss-20b", tokenizer).exit_code == 0
    result = run("sft.yaml", "model=gpt-oss-20b")
    assert result.exit_code == 3
    assert "there is no tokenizer.json" in result.stderr


def test_a_recipe_of_synthetic_sequences_needs_no_tokenizer(run):
    result = run("tiny", "--records", "50")
    assert result.exit_code == 0, result.output
    assert "of 50 records" not in result.output  # a window is read whole
    assert "wrote preview.html" in result.output
