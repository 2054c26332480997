"""One lockstep version: every package states it, every pin between siblings repeats it."""

import importlib.metadata
import re
from pathlib import Path


def test_all_packages_state_one_version(projects):
    assert len({project["version"] for project in projects.values()}) == 1


def test_siblings_are_pinned_to_that_version(projects):
    for name, project in projects.items():
        extras = project.get("optional-dependencies", {}).values()
        requirements = [*project["dependencies"], *(line for extra in extras for line in extra)]
        for requirement in requirements:
            sibling = re.match(r"gptoss-\w+", requirement)
            if sibling:
                assert requirement.endswith(f"=={project['version']}"), f"{name} needs {requirement}"
                assert sibling.group() in projects, f"{name} needs {requirement}, which is no package here"


def test_installed_version_is_the_stated_one(package, projects):
    assert importlib.metadata.version(package) == projects[package]["version"]


def test_changelog_gives_the_version_a_heading_for_each_package(root: Path, projects):
    version = next(iter(projects.values()))["version"]
    sections = re.split(r"^## ", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    newest = sections[0]
    assert newest.split()[0] == version
    assert re.findall(r"^### (\S+)$", newest, flags=re.MULTILINE) == [
        name
        for name in ("gptoss-weights", "gptoss-model", "gptoss-onnx", "gptoss-parity", "gptoss-train")
        if name in projects
    ]


def test_all_packages_support_the_same_pythons(root: Path, projects):
    listed = (root / ".python-version").read_text().split()
    for name, project in projects.items():
        assert project["requires-python"] == f">={listed[0]}", name
        stated = [line.rsplit(" ", 1)[1] for line in project["classifiers"] if "Python :: 3." in line]
        assert stated == listed, name
