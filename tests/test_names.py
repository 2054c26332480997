"""Folder, distribution, import and console script have one name; so have the commands' options."""

import importlib
import re
from pathlib import Path

PACKAGE_FILES = ["LICENSE", "README.md", "pyproject.toml"]


def test_distribution_is_named_as_its_folder(package, projects):
    assert projects[package]["name"] == package


def test_import_name_is_the_distribution_with_an_underscore(package, root: Path):
    sources = [path.name for path in (root / "packages" / package / "src").iterdir() if path.is_dir()]
    assert sources == [package.replace("-", "_")]
    assert (root / "packages" / package / "src" / sources[0] / "py.typed").is_file()


def test_console_script_is_named_as_its_distribution(package, projects):
    assert projects[package]["scripts"] == {package: f"{package.replace('-', '_')}.cli:main"}


def test_package_folder_holds_licence_readme_and_tests(package, root: Path):
    folder = root / "packages" / package
    assert [name for name in PACKAGE_FILES if not (folder / name).is_file()] == []
    assert list((folder / "tests").rglob("test_*.py"))
    assert (folder / "LICENSE").read_text() == (root / "LICENSE").read_text()


def test_readme_package_docstring_and_description_open_with_one_sentence(package, root: Path, projects):
    sentence = projects[package]["description"]
    docstring = importlib.import_module(package.replace("-", "_")).__doc__
    assert docstring.splitlines()[0] == sentence
    title, _, opening = (root / "packages" / package / "README.md").read_text().partition("\n")
    assert title == f"# {package}"
    # A README may go on where the description stops.
    assert re.match(rf"{re.escape(sentence.removesuffix('.'))}[.,:;]", opening.strip().replace("\n", " "))


def test_root_readme_and_docs_present_every_package(package, root: Path):
    assert f"packages/{package}" in (root / "README.md").read_text()
    assert (root / "docs" / "packages" / f"{package}.md").is_file()
