"""The diagnosis says what is there, and how to get what is not."""

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from gptoss_weights import Diagnosis, MissingDependencyError, diagnose, installation
from gptoss_weights.doctor import FEATURES, require_features

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


@pytest.fixture
def diagnosis(tmp_path: Path) -> Diagnosis:
    return diagnose(tmp_path)


def hide(monkeypatch: pytest.MonkeyPatch, distribution: str) -> None:
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name == distribution:
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def requires(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: list(lines))


def test_every_declared_extra_is_a_feature() -> None:
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    for extra, lines in extras.items():
        assert [re.match(r"[\w-]+", line).group() for line in lines] == [FEATURES[extra][0]]  # type: ignore[union-attr]


def test_this_environment_is_sound(diagnosis: Diagnosis) -> None:
    assert diagnosis.problems == []
    assert {"click", "numpy", "ml-dtypes"} <= {found.name for found in diagnosis.dependencies}
    assert "tokenizers" not in {found.name for found in diagnosis.dependencies}
    assert {found.name: found.version for found in diagnosis.dependencies}["numpy"] == importlib.metadata.version(
        "numpy"
    )


def test_missing_dependency_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    requires(monkeypatch, "numpy>=2.1", "no-such-thing>=1.0", "elsewhere>=2; platform_machine == 'z80'")
    assert diagnose().problems == ["no-such-thing is not installed; install it with: pip install 'no-such-thing'"]


def test_old_dependency_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    requires(monkeypatch, "numpy>=99.1")
    version = importlib.metadata.version("numpy")
    assert diagnose().problems == [
        f"numpy {version} is older than 99.1; install another with: pip install 'numpy>=99.1'"
    ]


def test_dependency_that_cannot_be_imported_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    requires(monkeypatch, "safetensors>=0.5.3")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (problem,) = diagnose().problems
    assert problem.startswith("safetensors is installed, but cannot be imported (ModuleNotFoundError:")


def test_missing_feature_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "tensorstore")
    features = {feature.name: feature for feature in diagnose().features}
    assert features["orbax"].problem == "tensorstore is not installed"
    assert features["orbax"].install == "pip install 'gptoss-weights[orbax]'"
    assert diagnose().problems == []


def test_required_features_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.1.0" if name == "gptoss-weights" else missing(name)
    )
    requires(monkeypatch)
    with pytest.raises(MissingDependencyError) as error:
        require_features(diagnose(), ["text", "orbax", "text"])
    assert str(error.value) == (
        "the feature text cannot be used: tokenizers is not installed; "
        "the feature orbax cannot be used: tensorstore is not installed. "
        "Install with: pip install 'gptoss-weights[text,orbax]'."
    )


def missing(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)


def test_old_feature_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra text")
    requires(monkeypatch, 'tokenizers>=99 ; extra == "text"')
    text = {feature.name: feature for feature in diagnose().features}["text"]
    assert text.problem == f"tokenizers {importlib.metadata.version('tokenizers')} is older than 99"


def test_unknown_feature_is_a_value_error(diagnosis: Diagnosis) -> None:
    with pytest.raises(ValueError, match="no feature is called jax; there are orbax, text"):
        require_features(diagnosis, ["jax"])


def test_sizes_are_the_published_ones(diagnosis: Diagnosis) -> None:
    sizes = diagnosis.checkpoint_bytes
    assert sizes["gpt-oss-20b, packed as MXFP4"] == 13_761_264_768
    assert sizes["gpt-oss-120b, packed as MXFP4"] == 65_248_815_744
    assert sizes["gpt-oss-20b, as bfloat16"] == 2 * 20_914_757_184


def test_disk_is_looked_up_where_the_folder_will_be(tmp_path: Path) -> None:
    assert diagnose(tmp_path / "not" / "yet").folder == tmp_path
    assert diagnose(tmp_path).free_disk_bytes > 0


def test_memory_is_unknown_where_the_system_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_MEMINFO", tmp_path / "meminfo")
    assert diagnose().free_memory_bytes is None
    (tmp_path / "meminfo").write_text("MemTotal:       24000 kB\nMemAvailable:    1000 kB\n")
    assert diagnose().free_memory_bytes == 1_024_000
