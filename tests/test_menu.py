"""The noxfile is a menu: every session says its purpose in a line, has a tag, and stands in the docs."""

import ast
from pathlib import Path

import pytest

TAGS = {"cpu", "cuda", "tpu"}


@pytest.fixture(scope="module")
def sessions(root: Path) -> dict[str, tuple[ast.FunctionDef, dict[str, ast.expr]]]:
    """Session name → its function, and the arguments of its decorator."""
    found = {}
    for node in ast.parse((root / "noxfile.py").read_text()).body:
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "nox.session":
                    found[node.name] = node, {keyword.arg: keyword.value for keyword in decorator.keywords}
    assert found
    return found


def test_every_session_says_its_purpose_in_one_line(sessions):
    for name, (function, _) in sessions.items():
        assert len((ast.get_docstring(function) or "").splitlines()) == 1, name


def test_every_session_runs_by_default_only_if_a_cpu_suffices(sessions):
    for name, (_, arguments) in sessions.items():
        tags = set(ast.literal_eval(arguments["tags"]))
        assert len(tags) == 1, name
        assert tags <= TAGS, name
        is_default = ast.literal_eval(arguments.get("default", ast.Constant(True)))
        assert not is_default or tags == {"cpu"}, name


def test_docs_list_every_session(sessions, root: Path):
    page = (root / "docs" / "contributing.md").read_text()
    assert [name for name in sessions if f"`{name}`" not in page and f"`{name}(<package>)`" not in page] == []


def test_ci_makes_its_matrix_from_the_menu(root: Path):
    workflow = (root / ".github" / "workflows" / "ci.yml").read_text()
    assert "nox --json -l" in workflow
    assert "fromJSON" in workflow
