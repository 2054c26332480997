import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from gptoss_parity import SOURCES, make_source
from gptoss_parity.sources import _ENTRIES
from gptoss_weights import MissingDependencyError


def test_unknown_source_is_named_with_the_known():
    with pytest.raises(ValueError, match="no source is called 'tf'; there are torch, hf, jax, onnx, numpy"):
        make_source("tf")


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("torch", "gpt_oss"),
        ("torch", "torch"),
        ("hf", "transformers"),
        ("jax", "gptoss_model"),
        ("onnx", "gptoss_onnx"),
    ],
)
def test_missing_extra_is_named_with_the_command_that_installs_it(name, module, monkeypatch):
    for loaded in list(sys.modules):
        if loaded.startswith((f"{module}.", "gptoss_parity.sources.")) and not loaded.endswith((".base", ".golden")):
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)  # importing it raises ModuleNotFoundError
    with pytest.raises(MissingDependencyError) as caught:
        make_source(name)
    assert f"pip install 'gptoss-parity[{name}]'" in str(caught.value)


def test_core_imports_no_framework():
    """Neither the package nor its command line loads what only a source needs."""
    program = (
        "import sys, gptoss_parity, gptoss_parity.report, gptoss_parity.cli, gptoss_parity.cli.compare\n"
        "import gptoss_parity.cli.record, gptoss_parity.cli.verify, gptoss_parity.cli.golden, gptoss_parity.selftest\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    for framework in (
        "torch",
        "transformers",
        "gpt_oss",
        "jax",
        "flax",
        "onnx",
        "onnxruntime",
        "gptoss_model",
        "gptoss_onnx",
    ):
        assert repr(framework) not in loaded
    assert "'matplotlib'" not in loaded


def test_sources_are_those_of_the_command_line():
    assert SOURCES == ("torch", "hf", "jax", "onnx", "numpy")


@pytest.mark.parametrize("name", SOURCES)
def test_source_imports_its_own_extra_and_no_other(name):
    """Read from the sources, for no environment has each extra alone."""
    entry = _ENTRIES[name]
    others = {module for each in _ENTRIES.values() for module in each.imports} - set(entry.imports)
    imported = imported_from(f"gptoss_parity.sources.{entry.module}", set())
    assert others & imported == set()
    assert set(entry.imports) <= imported | {"onnx", "onnx_ir", "flax"}  # which siblings bring


def imported_from(module: str, seen: set[str]) -> set[str]:
    """Top-level names that a module of ours imports, and those that it imports of ours do, type checking aside."""
    seen.add(module)
    tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text())
    found: set[str] = set()
    for node in tree.body:
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for imported in names:
            found.add(imported.partition(".")[0])
            if imported.startswith("gptoss_parity") and imported not in seen:
                found |= imported_from(imported, seen)
    return found
