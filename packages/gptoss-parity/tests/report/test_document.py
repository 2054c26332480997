import json
import re
from pathlib import Path

import pytest
from gptoss_parity import BFLOAT16, FLOAT32, compare
from gptoss_parity.report import SCHEMA, Continuation, Report, report_document, report_json

README = Path(__file__).parents[2] / "README.md"


def reject_constant(name):
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize("kind", ["sound", "broken"])
def test_report_is_strict_json(kind, request):
    report = request.getfixturevalue(kind)
    parsed = json.loads(report_json(report), parse_constant=reject_constant)
    assert parsed == report_document(report)
    assert parsed["schema"] == SCHEMA
    assert parsed["passed"] is (kind == "sound")


def test_document_holds_every_probe_and_layer(sound, trace, config):
    (first, _) = report_document(sound)["comparisons"]
    assert [probe["name"] for probe in first["probes"]] == [n for n in trace if not n.endswith("router_indices")]
    assert [layer["layer"] for layer in first["routing"]] == list(range(config.num_hidden_layers))
    assert first["tokens"] == trace.tokens.tolist()
    assert all(layer["agreement"] == 1 and layer["flips"] == [] for layer in first["routing"])


def test_failures_are_told_in_order(broken):
    (comparison,) = report_document(broken)["comparisons"]
    assert [failure["probe"] for failure in comparison["failures"]] == [
        "embedding",
        "layers.1.output",
        "layers.2.router_indices",
    ]
    (flip,) = comparison["routing"][2]["flips"]
    assert (flip["token"], flip["is_order_only"], flip["kind"]) == (5, True, "real")
    assert next(p for p in comparison["probes"] if p["name"] == "layers.1.output")["relative_l2"] is None


def test_every_limit_stands_there_with_its_reason(sound):
    limits = report_document(sound)["comparisons"][0]["tolerances"]["limits"]
    assert limits["hidden"]["value"] == 2e-6
    assert all(limit["reason"] for limit in limits.values())


def test_different_continuations_fail_the_report(trace):
    continuation = Continuation(prompt="", tokens={"jax": [1, 2], "onnx": [1, 3]}, texts={"jax": "a", "onnx": "b"})
    report = Report(title="t", comparisons=[compare(trace, trace)], continuation=continuation)
    assert not report.passed
    assert report.verdict == "the continuations of jax and onnx differ"
    assert report_document(report)["continuation"]["agrees"] is False


def test_readme_names_every_key(broken, sound):
    schema = README.read_text().partition("## The JSON report")[2]
    for report in (broken, sound):
        missing = {key for key in keys(report_document(report)) if not re.search(rf"\b{key}\b", schema)}
        assert not missing


def keys(value):
    """Every key of the document but those that are names: of versions, options, sources and limits."""
    if isinstance(value, list):
        return set().union(*map(keys, value))
    if not isinstance(value, dict):
        return set()
    named = {"versions", "options", "config", "texts"}
    inner = [keys(child) for key, child in value.items() if key not in named | {"limits"}]
    limits = [keys(limit) for limit in value.get("limits", {}).values()]
    return (set(value) - {"x", "y"}).union(*inner, *limits)


def test_readme_states_the_limits():
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \|", README.read_text(), flags=re.MULTILINE)
    stated = {name: (float(single), float(half)) for name, single, half in rows}
    assert stated == {name: (limit.value, BFLOAT16.limits()[name].value) for name, limit in FLOAT32.limits().items()}
