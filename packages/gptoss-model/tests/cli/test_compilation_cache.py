from pathlib import Path

import jax
import pytest
from gptoss_model.cli.compilation_cache import cache_folder, use_compilation_cache


@pytest.fixture(autouse=True)
def unchanged_config():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_programs_are_kept_in_the_users_folder_of_caches(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    use_compilation_cache(is_wanted=True)
    assert cache_folder() == tmp_path / "gptoss-model" / "compiled"
    assert jax.config.jax_compilation_cache_dir == str(cache_folder())
    assert cache_folder().is_dir()


def test_without_a_variable_it_is_below_home(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "gptoss-model" / "compiled"


def test_jaxs_own_variable_has_the_last_word(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    assert cache_folder() is None


def test_nothing_is_kept_if_that_is_not_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "elsewhere"))
    use_compilation_cache(is_wanted=False)
    assert jax.config.jax_compilation_cache_dir is None
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_made_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(Path(tmp_path / "file" / "below")))
    use_compilation_cache(is_wanted=True)
    assert jax.config.jax_compilation_cache_dir is None
