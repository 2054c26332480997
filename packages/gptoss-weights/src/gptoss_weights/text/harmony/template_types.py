"""JSON schemas as types, as the published chat template writes them, which is not as openai-harmony does.

A port of the macros `render_typescript_type` and `render_tool_namespace` of `chat_template.jinja`; the
line breaks and spaces within nested types are the template's.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gptoss_weights.errors import ConversationError
from gptoss_weights.text.harmony.tools import FUNCTIONS, Tool

__all__ = ["functions_text"]

LONGEST_ITEM_TYPE = 50  # characters; longer ones are `any[]`
_SCALARS = {"number": "number", "integer": "number", "boolean": "boolean"}
_AFTER_COLON = "\n" + 16 * " "
_BEFORE_DEFAULT = 20 * " "


def functions_text(tools: Sequence[Tool]) -> str:
    """The section of the namespace `functions`.

    Raises:
        ConversationError: the template cannot write a schema.
    """
    written = "".join(_tool(tool) for tool in tools)
    return f"## {FUNCTIONS}\n\nnamespace {FUNCTIONS} {{\n\n{written}}} // namespace {FUNCTIONS}"


def _tool(tool: Tool) -> str:
    schema = tool.parameters or {}
    properties = schema.get("properties")
    head = f"// {tool.description}\ntype {tool.name} = "
    if not properties:
        return f"{head}() => any;\n\n"
    required = schema.get("required") or []
    lines = [_parameter(name, _object(spec), required, f"{tool.name}.{name}") for name, spec in properties.items()]
    return f"{head}(_: {{\n{''.join(lines)}}}) => any;\n\n"


def _parameter(name: str, spec: Mapping[str, Any], required: Sequence[str], where: str) -> str:
    description = f"// {_string(spec['description'], where)}\n" if spec.get("description") else ""
    written = f"{description}{name}{'' if name in required else '?'}: {_type(spec, where)}"
    if "default" in spec:
        if spec.get("enum"):
            written += f", // default: {_string(spec['default'], where)}"
        elif spec.get("oneOf"):
            written += f"// default: {_string(spec['default'], where)}"
        else:
            written += f", // default: {_json(spec['default'], where)}"
    return f"{written},\n"


def _type(spec: Mapping[str, Any], where: str) -> str:
    kind = spec.get("type")
    null = " | null" if spec.get("nullable") else ""
    if kind == "array":
        return f"{_item_type(spec.get('items'), where)}{null}"
    if isinstance(kind, list | tuple) and kind:
        return " | ".join(map(str, kind))
    if spec.get("oneOf"):
        variants = [_object(variant) for variant in spec["oneOf"]]
        return " | \n".join(_variant(variant, where) for variant in variants)
    if kind == "string":
        values = spec.get("enum")
        return '"' + '" | "'.join(map(str, values)) + '"' if values else f"string{null}"
    if kind == "object":
        properties = spec.get("properties")
        if not properties:
            return "object"
        required = spec.get("required") or []
        fields = [
            f"{name}{'' if name in required else '?'}: {_AFTER_COLON}{_type(_object(inner), where)}"
            for name, inner in properties.items()
        ]
        return "{\n" + ", ".join(fields) + "}"
    return _SCALARS.get(kind, "any") if isinstance(kind, str) else "any"


def _item_type(items: object, where: str) -> str:
    if not items:
        return "any[]"
    kind = _object(items).get("type")
    if kind == "string":
        return "string[]"
    if isinstance(kind, str) and kind in _SCALARS:
        return f"{_SCALARS[kind]}[]"
    inner = _type(_object(items), where)
    return "any[]" if inner == "object | object" or len(inner) > LONGEST_ITEM_TYPE else f"{inner}[]"


def _variant(spec: Mapping[str, Any], where: str) -> str:
    written = _type(spec, where)
    if spec.get("description"):
        written += f"// {_string(spec['description'], where)}"
    if "default" in spec:
        written += f"{_BEFORE_DEFAULT}// default: {_json(spec['default'], where)}"
    return written


def _object(spec: object) -> Mapping[str, Any]:
    """A schema; one that is no object says nothing."""
    return spec if isinstance(spec, Mapping) else {}


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ConversationError(
            "the template writes only text here", where=where, expected="a string", found=repr(value)
        )
    return value


def _json(value: object, where: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        raise ConversationError(f"a default is no JSON ({error})", where=where) from None
