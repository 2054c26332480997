import json

import jax
import pytest
from gptoss_model import doctor


def test_everything_is_printed(run):
    result = run("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    for words in ("gptoss-model  ", "jax  ", "devices\n  cpu ", "  gathered  ", "  blockwise  ", "what auto chooses"):
        assert words in result.stdout


@pytest.mark.skipif(jax.default_backend() == "tpu", reason="a TPU can run it")
def test_what_cannot_run_here_says_why_and_can_be_required(run):
    assert "not here: its Pallas kernel is compiled for TPUs only" in run("doctor").stdout
    result = run("doctor", "--require", "megablox", "--require", "tiled")
    assert result.exit_code == 5
    assert "megablox cannot be used: its Pallas kernel" in result.stderr
    assert run("doctor", "--require", "tiled", "--require", "blockwise").exit_code == 0


def test_json_is_the_whole_diagnosis(run):
    document = json.loads(run("doctor", "--json").stdout)
    assert document["ok"]
    assert document["devices"][0]["platform"] == jax.default_backend()
    assert {(entry["kind"], entry["name"]) for entry in document["strategies"]} >= {
        ("moe", "gathered"),
        ("attention", "reference"),
    }
    assert all(entry["reason"] for entry in document["strategies"])
    assert "moe, decoding, packed experts" in document["choices"]


def test_unknown_requirements_are_a_usage_error(run):
    result = run("doctor", "--require", "telepathy")
    assert result.exit_code == 2
    assert "nothing is called telepathy; there are gathered" in result.stderr


def test_a_jax_that_cannot_start_is_a_problem(run, monkeypatch):
    def fail():
        raise RuntimeError("no driver\nat all")

    monkeypatch.setattr(jax, "devices", fail)
    result = run("doctor", "--require", "tiled")
    assert result.exit_code == 5
    assert "JAX cannot start (RuntimeError: no driver at all)" in result.stderr


def test_a_missing_tokenizer_library_is_no_problem_unless_required(run, monkeypatch):
    monkeypatch.setattr(doctor, "FEATURES", {"text": ("no-such-thing", "turn text into tokens")})
    assert run("doctor").exit_code == 0
    result = run("doctor", "--require", "text")
    assert result.exit_code == 5
    assert "text cannot be used: no-such-thing is not installed" in result.stderr


def test_kept_programs_are_counted_and_may_be_none(run, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    (tmp_path / "program").write_bytes(bytes(30))
    assert json.loads(run("doctor", "--json").stdout)["compilation_cache_bytes"] == 30
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    assert "compiled programs are not kept" in run("doctor").stdout
