import json

import pytest

SHORT = ["--prompt-tokens", "3", "--new-tokens", "6", "--repeats", "1", "--dtype", "float32"]


def test_json_has_every_number(run, bare_folder):
    result = run("benchmark", bare_folder, *SHORT, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["batch"], report["prompt_tokens"], report["new_tokens"]) == (1, 3, 6)
    parts = ("open", "import", "load", "compile_prefill", "prefill")
    assert report["first_token_seconds"] == pytest.approx(sum(report[f"{part}_seconds"] for part in parts))
    assert report["prefill_tokens_per_second"] == pytest.approx(3 / report["prefill_seconds"])
    assert report["decode_tokens_per_second"] == pytest.approx(5 / report["decode_seconds"])
    assert report["peak_memory_bytes"] > 50e6, "JAX alone takes more"


def test_a_table_is_printed(run, bare_folder):
    result = run("benchmark", bare_folder, *SHORT)
    assert result.exit_code == 0, result.output
    for words in ("batch 1, 3 tokens and 6 new ones", "first token after all that", "tokens/s", "GiB"):
        assert words in result.stdout


def test_a_lone_config_gets_random_weights(run, bare_folder):
    result = run("benchmark", bare_folder / "config.json", *SHORT, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["decode_tokens_per_second"] > 0


def test_one_new_token_is_too_few_to_time_decoding(run, bare_folder):
    assert run("benchmark", bare_folder, "--new-tokens", "1").exit_code == 2
