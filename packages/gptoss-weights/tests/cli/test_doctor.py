"""`doctor` prints what there is, and exits with 5 where something that is asked for is missing."""

import importlib.metadata
import json

import click
import pytest
from click.testing import CliRunner, Result
from gptoss_weights.cli import main
from gptoss_weights.cli.doctor import doctor
from gptoss_weights.doctor import FEATURES


def run(*options: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *options])


def without(monkeypatch: pytest.MonkeyPatch, distribution: str) -> None:
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name == distribution:
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_versions_features_and_space_are_printed() -> None:
    result = run()
    assert (result.exit_code, result.stderr) == (0, "")
    for words in ("gptoss-weights  ", "Python  ", "numpy  ", "optional features", "  orbax  ", "free disk space in"):
        assert words in result.stdout


def test_json_is_the_whole_diagnosis() -> None:
    document = json.loads(run("--json").stdout)
    assert document["ok"]
    assert {feature["name"] for feature in document["features"]} == set(FEATURES)
    assert document["version"] == importlib.metadata.version("gptoss-weights")


def test_required_feature_that_is_missing_is_exit_code_5(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "tensorstore")
    result = run("--require", "orbax")
    assert result.exit_code == 5
    assert result.stderr == (
        "error: the feature orbax cannot be used: tensorstore is not installed. "
        "Install with: pip install 'gptoss-weights[orbax]'.\n"
    )
    assert "tensorstore is not installed; pip install 'gptoss-weights[orbax]'" in result.stdout
    assert run().exit_code == 0
    assert json.loads(run("--require", "orbax", "--json").stdout)["ok"]


def test_missing_dependency_is_exit_code_5(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "huggingface-hub")
    result = run()
    assert result.exit_code == 5
    assert result.stderr == "error: huggingface-hub is not installed; install it with: pip install 'huggingface-hub'\n"
    assert not json.loads(run("--json").stdout)["ok"]


def test_unknown_feature_is_a_usage_error() -> None:
    assert run("--require", "jax").exit_code == 2


def test_choices_are_the_features() -> None:
    (choice,) = [parameter.type for parameter in doctor.params if parameter.name == "require"]
    assert isinstance(choice, click.Choice)
    assert list(choice.choices) == list(FEATURES)
