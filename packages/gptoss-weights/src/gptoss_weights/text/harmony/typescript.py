"""JSON schemas as the TypeScript-like types that the models were trained on, exactly as openai-harmony writes them.

A port of `json_schema_to_typescript` (openai/harmony `encoding.rs`), its oddities included: the model knows
this text, not the better one that could be thought of. The published chat template has a writer of its own,
`template_types`.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

__all__ = ["typescript_type"]

_SCALARS = {"number": "number", "integer": "number", "boolean": "boolean"}
# Integers beyond these become floats in Rust's serde_json.
_SMALLEST_INTEGER, _LARGEST_INTEGER = -(2**63), 2**64 - 1
_LARGEST_PLAIN_EXPONENT, _SMALLEST_PLAIN_EXPONENT = 16, -5  # of floats that serde_json writes without an `e`


def typescript_type(schema: object, indent: str = "") -> str:
    """The type that a JSON schema describes, its descriptions and defaults as comments.

    Args:
        schema: The schema; what is none, or says too little, is `any`.
        indent: Spaces before the lines of this type.

    Raises:
        ValueError: a default is no JSON value.
    """
    if not isinstance(schema, Mapping):
        return "any"
    variants = schema.get("oneOf")
    if isinstance(variants, list):
        return "".join(f"\n{indent} | {_variant(variant, indent)}{_comments(variant)}" for variant in variants)
    kind = schema.get("type")
    if isinstance(kind, list):
        names = ["number" if name == "integer" else name for name in kind if isinstance(name, str)]
        return " | ".join(names) or "any"
    if kind == "object":
        return _object(schema, indent)
    if kind == "string":
        values = schema.get("enum")
        quoted = [f'"{value}"' for value in values if isinstance(value, str)] if isinstance(values, list) else []
        return " | ".join(quoted) or "string"
    if kind == "array":
        return f"{typescript_type(schema['items'], indent)}[]" if "items" in schema else "Array<any>"
    return _SCALARS.get(kind, "any") if isinstance(kind, str) else "any"


def _object(schema: Mapping[str, Any], indent: str) -> str:
    lines = []
    if isinstance(schema.get("description"), str):
        lines.append(f"{indent}// {schema['description']}")
    lines.append("{")
    required = schema.get("required")
    names = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        for key, value in properties.items():
            mark = "" if key in names else "?"
            lines += _property(f"{key}{mark}", value if isinstance(value, Mapping) else {}, indent)
    return "\n".join([*lines, f"{indent}}}"])


def _property(name: str, schema: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    title, description, examples = schema.get("title"), schema.get("description"), schema.get("examples")
    if isinstance(title, str):
        lines += [f"{indent}// {title}", f"{indent}//"]
    if isinstance(description, str) and "oneOf" not in schema:
        lines.append(f"{indent}// {description}")
    if isinstance(examples, list) and examples:
        lines.append(f"{indent}// Examples:")
        lines += [f'{indent}// - "{example}"' for example in examples if isinstance(example, str)]
    if isinstance(schema.get("oneOf"), list):
        return lines + _property_of_variants(name, schema, indent)
    default = f" // default: {_default(schema)}" if "default" in schema and "oneOf" not in schema else ""
    return [*lines, f"{indent}{name}: {_variant(schema, f'{indent} ')},{default}"]


def _property_of_variants(name: str, schema: Mapping[str, Any], indent: str) -> list[str]:
    """A property that is one of several types; one description stands above it, not twice."""
    variants = schema["oneOf"]
    description = schema.get("description") if isinstance(schema.get("description"), str) else None
    first = variants[0] if variants and isinstance(variants[0], Mapping) else {}
    is_above = description is not None and first.get("description") != description
    lines = [f"{indent}// {description}"] if is_above else []
    if "default" in schema:
        lines.append(f"{indent}// default: {_default(schema)}")
    lines.append(f"{indent}{name}:")
    for place, variant in enumerate(variants):
        comments = []
        own = variant.get("description") if isinstance(variant, Mapping) else None
        if isinstance(own, str) and own != description and not (place == 0 and is_above):
            comments.append(own)
        if isinstance(variant, Mapping) and "default" in variant:
            comments.append(f"default: {_default(variant)}")
        behind = f" // {' '.join(comments)}" if comments else ""
        lines.append(f"{indent} | {_variant(variant, indent)}{behind}")
    return [*lines, f"{indent},"]


def _variant(schema: object, indent: str) -> str:
    written = typescript_type(schema, f"{indent}   ")
    is_nullable = isinstance(schema, Mapping) and schema.get("nullable") is True
    return f"{written} | null" if is_nullable and "null" not in written else written


def _comments(variant: object) -> str:
    """What stands behind a variant that is not a property's: description and default."""
    if not isinstance(variant, Mapping):
        return ""
    comments = [variant["description"]] if isinstance(variant.get("description"), str) else []
    if "default" in variant:
        is_plain = isinstance(variant["default"], str) and not _is_enum(variant)
        comments.append(f'default: "{variant["default"]}"' if is_plain else f"default: {_json(variant['default'])}")
    return f" // {' '.join(comments)}" if comments else ""


def _default(schema: Mapping[str, Any]) -> str:
    """A default value: a string in quotes, without them among an enum's."""
    value = schema["default"]
    if isinstance(value, str):
        return value if _is_enum(schema) else f'"{value}"'
    return _json(value)


def _is_enum(schema: Mapping[str, Any]) -> bool:
    return isinstance(schema.get("enum"), list) and bool(schema["enum"])


def _json(value: object) -> str:
    """Compact JSON as Rust's serde_json writes it: no spaces, text as it is, floats shortest."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_json(str(key))}:{_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_json(item) for item in value) + "]"
    if isinstance(value, int) and not isinstance(value, bool) and not _SMALLEST_INTEGER <= value <= _LARGEST_INTEGER:
        value = float(value)
    if isinstance(value, float):
        return _float(value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:
        raise ValueError(f"a default in a tool's schema is no JSON value: {value!r}") from None


def _float(value: float) -> str:
    """A float in its fewest digits, as the crate `ryu` writes it."""
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"a default in a tool's schema is no JSON value: {value!r}")
    shown = "".join(map(str, digits)).rstrip("0") or "0"
    exponent += len(digits) - len(shown)
    point = len(shown) + exponent  # where the decimal point stands, counted from the first digit
    minus = "-" if sign else ""
    if shown == "0":
        return f"{minus}0.0"
    if exponent >= 0 and point <= _LARGEST_PLAIN_EXPONENT:
        return f"{minus}{shown}{'0' * exponent}.0"
    if 0 < point <= _LARGEST_PLAIN_EXPONENT:
        return f"{minus}{shown[:point]}.{shown[point:]}"
    if _SMALLEST_PLAIN_EXPONENT < point <= 0:
        return f"{minus}0.{'0' * -point}{shown}"
    mantissa = shown if len(shown) == 1 else f"{shown[0]}.{shown[1:]}"
    return f"{minus}{mantissa}e{point - 1}"
