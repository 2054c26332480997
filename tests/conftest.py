"""What the cross-package tests share: the packages, their project tables, and the tracked files."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = sorted(path.parent for path in (ROOT / "packages").glob("*/pyproject.toml"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `package` runs once for each distribution."""
    if "package" in metafunc.fixturenames:
        metafunc.parametrize("package", [folder.name for folder in FOLDERS])


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def projects() -> dict[str, dict[str, Any]]:
    """Folder name → the `[project]` table of its pyproject.toml."""
    return {folder.name: tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in FOLDERS}


@pytest.fixture(scope="session")
def tracked_files() -> list[Path]:
    """Every file that git tracks and that is there."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout, so nothing says which files belong to it")
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]
