"""Public is what `__all__` lists: it exists, it is explained, and other packages use nothing else."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

NEEDS_TORCH = {  # PyTorch is in the session `oracles` only
    "gptoss_parity.sources.openai_torch",
    "gptoss_parity.sources.openai_tracing",
    "gptoss_parity.sources.torch_tensors",
    "gptoss_parity.sources.transformers",
}


def modules(package: str) -> list[str]:
    root = importlib.import_module(package.replace("-", "_"))
    found = [module.name for module in pkgutil.walk_packages(root.__path__, f"{root.__name__}.")]
    return [root.__name__, *(name for name in found if name not in NEEDS_TORCH and not name.endswith("__main__"))]


def test_every_listed_name_exists_once(package):
    for name in modules(package):
        module = importlib.import_module(name)
        listed = getattr(module, "__all__", [])
        assert len(set(listed)) == len(listed), name
        assert [public for public in listed if not hasattr(module, public)] == [], name


def test_package_root_lists_its_public_names(package):
    assert importlib.import_module(package.replace("-", "_")).__all__


def test_every_public_class_and_function_has_a_docstring_of_its_own(package):
    bare = []
    for name in modules(package):
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", []):
            thing = getattr(module, public)
            is_ours = (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__.startswith("gptoss_")
            if is_ours and not (thing.__doc__ or "").strip():
                bare.append(f"{name}.{public}")
    assert bare == []


def test_packages_use_only_each_others_public_names(root: Path):
    trespasses = []
    for path in sorted((root / "packages").glob("*/src/**/*.py")):
        own = path.relative_to(root / "packages").parts[0].replace("-", "_")
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("gptoss_"):
                continue
            if node.module.split(".")[0] == own:
                continue
            public = getattr(importlib.import_module(node.module), "__all__", [])
            trespasses += [
                f"{path.relative_to(root)}:{node.lineno} imports {node.module}.{alias.name}"
                for alias in node.names
                if alias.name not in public
            ]
    assert trespasses == []
