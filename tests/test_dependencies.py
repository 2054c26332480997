"""A package declares what its sources import, and no more."""

import ast
import re
import sys
from pathlib import Path

# Where the import is not the distribution's name with underscores.
IMPORT_NAMES = {"orbax-checkpoint": "orbax", "pillow": "PIL", "pyyaml": "yaml", "tensorboardx": "tensorboardX"}
# Named for the variant that they install; what is imported is declared without the extra.
VARIANT_EXTRAS = {"cuda", "tpu"}


def imported(sources: Path) -> set[str]:
    """Top-level names of everything that a folder of sources imports, wherever it does so."""
    names = set()
    for path in sources.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").split(".")[0])
    return names - set(sys.stdlib_module_names) - {sources.name}


def declared(project: dict) -> set[str]:
    """Import names of all that a project table requires, extras included, itself left out."""
    extras = project.get("optional-dependencies", {})
    lines = [*project["dependencies"], *(line for name in extras.keys() - VARIANT_EXTRAS for line in extras[name])]
    names = {re.match(r"[\w-]+", line).group() for line in lines} - {project["name"]}
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


def test_imports_are_the_declared_dependencies(package, root: Path, projects):
    sources = root / "packages" / package / "src" / package.replace("-", "_")
    assert imported(sources) == declared(projects[package])
