"""Types from JSON schemas, as openai-harmony writes them; the goldens hold more of its text."""

from typing import Any

import pytest
from gptoss_weights.text.harmony.typescript import typescript_type


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        ({}, "any"),
        (True, "any"),
        ({"type": "integer"}, "number"),
        ({"type": "null"}, "any"),
        ({"type": ["integer", "null"]}, "number | null"),
        ({"type": []}, "any"),
        ({"type": "string", "enum": ["a", 1, "b"]}, '"a" | "b"'),
        ({"type": "string", "enum": []}, "string"),
        ({"type": "array"}, "Array<any>"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "boolean"}}}, "boolean[][]"),
        ({"type": "object"}, "{\n}"),
        ({"oneOf": []}, ""),
        ({"oneOf": [{"type": ["string", "null"], "nullable": True}]}, "\n | string | null"),
        ({"oneOf": [{"type": "string"}, {"type": "number", "nullable": True}]}, "\n | string\n | number | null"),
    ],
)
def test_type_of_a_schema(schema: Any, written: str) -> None:
    assert typescript_type(schema) == written


@pytest.mark.parametrize(
    ("default", "written"),
    [
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e16"),
        (1.5e300, "1.5e300"),
        (0.00001, "0.00001"),
        (0.000001, "1e-6"),
        (-2.5e-7, "-2.5e-7"),
        (2**64 - 1, "18446744073709551615"),
        (2**64, "1.8446744073709552e19"),
        (-(2**63) - 1, "-9.223372036854776e18"),
        ([1, {"ü": None}], '[1,{"ü":null}]'),
        (False, "false"),
        ('a "quote"', '"a "quote""'),
    ],
)
def test_default_is_written_as_rust_writes_it(default: object, written: str) -> None:
    schema = {"type": "object", "properties": {"x": {"default": default}}}
    assert typescript_type(schema) == f"{{\nx?: any, // default: {written}\n}}"


@pytest.mark.parametrize("default", [float("nan"), float("inf"), {1j}, [float("-inf")]])
def test_default_that_is_no_json_is_refused(default: object) -> None:
    with pytest.raises(ValueError, match="a default in a tool's schema is no JSON value"):
        typescript_type({"type": "object", "properties": {"x": {"default": default}}})
