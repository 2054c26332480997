import importlib
import json
import os
import sys

import jax
import pytest
from gptoss_train.runtime import importing, start_jax

NOT_UNROLLED = "--xla_backend_extra_options=xla_cpu_disable_loop_unrolling"
ASYNCHRONOUS = "jax_cpu_enable_async_dispatch"


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    before = jax.config.values[ASYNCHRONOUS]
    yield
    jax.config.update(ASYNCHRONOUS, before)


@pytest.mark.parametrize(
    ("platforms", "flags", "expected"),
    [
        ("cpu", "", NOT_UNROLLED),
        ("cpu", "--xla_dump_to=x", f"--xla_dump_to=x {NOT_UNROLLED}"),
        ("cpu", "--xla_backend_extra_options=xla_cpu_fold_all_constants", None),
        ("cuda,cpu", "--xla_dump_to=x", None),
        ("tpu", "", None),
    ],
)
def test_loops_are_not_unrolled_on_cpus_unless_somebody_says_how(platforms, flags, expected, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setenv("XLA_FLAGS", flags)
    start_jax()
    assert os.environ["XLA_FLAGS"] == (flags if expected is None else expected)


@pytest.mark.parametrize("accelerators", [(), ("jax_plugins",), ("libtpu",)])
def test_without_a_word_on_platforms_what_is_installed_decides(accelerators, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in accelerators else None)
    start_jax()
    assert os.environ["XLA_FLAGS"] == ("" if accelerators else NOT_UNROLLED)


@pytest.mark.parametrize("platforms", ["cpu", "cuda,cpu"])
def test_on_cpus_a_step_runs_where_it_is_asked_for(platforms, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setenv("XLA_FLAGS", "")
    jax.config.update(ASYNCHRONOUS, True)
    start_jax()
    assert jax.config.values[ASYNCHRONOUS] == (platforms != "cpu")


def test_imports_go_without_a_package_and_without_threads_for_numpy(monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with importing(without=["this", "json"]):
        assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("this")
        assert importlib.import_module("json") is json, "what is imported already stays"
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    assert "this" not in sys.modules
    assert sys.modules["json"] is json


def test_a_number_of_numpys_threads_that_somebody_chose_stays(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    with importing():
        assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
