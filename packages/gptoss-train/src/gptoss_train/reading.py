"""Dataclasses from YAML: types are checked, unknown keys refused with the nearest known one, all at once."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAliasType

import yaml
from gptoss_weights.wording import shown

from gptoss_train.errors import ConfigError

__all__ = ["changed_keys", "config_as_yaml", "parse_config", "read_config"]

HOW_TO_FIX = "--print-config shows every key with its value."
BY_TYPE = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp")}
KINDS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "str", "seq", "map")}


class _Loader(yaml.SafeLoader):
    """Leaves numbers and dates as they are spelled, for what they mean is up to the type of their key.

    YAML 1.1 would read a text such as 010 or 1_000 as the numbers 8 and 1000, and 1e-4 as a text. Tags for
    anything but texts, truth, null, lists and mappings are refused, and a key that is given twice is as well.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping, with each of its own keys only once; those merged in by `<<` may come again."""
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in BY_TYPE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: constructor for tag, constructor in yaml.SafeLoader.yaml_constructors.items() if tag is None or tag in KINDS
}


def read_config[C](kind: type[C], path: Path, overrides: Sequence[str] = ()) -> C:
    """Reads a YAML file as a dataclass, and `key=value` over it.

    Args:
        kind: The dataclass; its fields may be dataclasses, Literals, tuples, numbers, texts, and None.
        path: The file.
        overrides: Each sets one key, by dots, to a YAML value.

    Raises:
        ConfigError: the file is missing or no YAML, a key unknown or missing, a value of a wrong type or impossible.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config cannot be read ({error})", where=path) from None
    return parse_config(kind, text, overrides, where=path)


def parse_config[C](kind: type[C], text: str, overrides: Sequence[str] = (), *, where: Path | str) -> C:
    """The same for the text of a file; `where` names it in errors.

    Raises:
        ConfigError: as `read_config`.
    """
    try:
        document = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"the config is no YAML ({' '.join(str(error).split())})", where=where) from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError("the config is no mapping", where=where, expected="key: value", found=shown(document))
    for override in overrides:
        _override(document, override)
    problems: list[str] = []
    config = _build(kind, document, "", problems)
    if problems:
        raise ConfigError("the config is not possible: " + "; ".join(problems), where=where, fix=HOW_TO_FIX)
    assert isinstance(config, kind)
    return config


def config_as_yaml(config: Any) -> str:
    """Every key of a config with its value, as YAML that reads back as the same."""
    text: str = yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False, allow_unicode=True, width=100)
    return text


def changed_keys(before: str, after: str) -> dict[str, tuple[Any, Any]]:
    """Keys, with dots, whose values differ between two configs as YAML → both values."""
    old, new = (_flat(yaml.safe_load(text)) for text in (before, after))
    return {key: (old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)}


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in document.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value


def _override(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError("a key is set as key=value", found=override)
    try:
        value = yaml.load(text, _Loader) if text else ""
    except yaml.YAMLError:
        value = text
    *sections, last = key.split(".")
    section = document
    for name in sections:
        inner = section.setdefault(name, {})
        if not isinstance(inner, dict):
            inner = section[name] = {}
        section = inner
    section[last] = value


def _build(kind: type, document: Any, where: str, problems: list[str]) -> Any:
    """The dataclass of a mapping, or None and problems."""
    if not isinstance(document, dict):
        problems.append(f"{where or 'the config'}: expected keys and values, found {shown(document)}")
        return None
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    before = len(problems)
    values = {}
    for key, value in document.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in fields:
            problems.append(_unknown(str(key), path, list(fields)))
            continue
        values[key] = _convert(hints[key], value, path, problems)
    for name, field in fields.items():
        is_needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if is_needed and name not in document:
            problems.append(f"{where + '.' if where else ''}{name}: it must be given")
    if len(problems) > before:
        return None
    try:
        return kind(**values)
    except ValueError as error:
        problems.append(_from_the_top(str(error), where))
        return None


def _from_the_top(problem: str, where: str) -> str:
    """The problem with whole keys: a section that stands in another as well knows only its usual place."""
    parts = where.split(".")
    usual = problem.split(":")[0].split(".")[0]
    if usual not in parts[1:]:
        return problem
    outer = ".".join(parts[: parts.index(usual)])
    return "; ".join(f"{outer}.{part}" if part.startswith(f"{usual}.") else part for part in problem.split("; "))


def _unknown(key: str, path: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"; the nearest is {near[0]!r}" if near else f"; known are {', '.join(known)}"
    return f"{path}: there is no such key{hint}"


def _convert(hint: Any, value: Any, path: str, problems: list[str]) -> Any:
    """The value as its type wants it; a problem where it cannot be."""
    while isinstance(hint, TypeAliasType):
        hint = hint.__value__
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, path, problems)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        [kept] = [argument for argument in arguments if argument is not type(None)]
        return _convert(kept, value, path, problems)
    if origin is Literal:
        if value is False and "off" in arguments:  # as YAML 1.1 reads it
            return "off"
        if value not in arguments or isinstance(value, bool):
            near = difflib.get_close_matches(str(value), list(map(str, arguments)), n=1)
            hint_text = f"; the nearest is {near[0]!r}" if near else ""
            problems.append(f"{path}: expected {', '.join(map(str, arguments))}, found {shown(value)}{hint_text}")
        return value
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value] if isinstance(value, str) else None
        if items is None:
            problems.append(f"{path}: expected a list, found {shown(value)}")
            return ()
        return tuple(_convert(arguments[0], item, f"{path}[{place}]", problems) for place, item in enumerate(items))
    return _scalar(hint, value, path, problems)


def _scalar(hint: type, value: Any, path: str, problems: list[str]) -> Any:
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
    found = _number(hint, value) if hint in (int, float) and isinstance(value, str) else value
    if not isinstance(found, hint) or isinstance(found, bool) != (hint is bool):
        problems.append(f"{path}: expected {names.get(hint, hint)}, found {shown(value)}")
        return value
    return found


def _number(hint: type, text: str) -> int | float | None:
    """The number that a text spells; None if it is none of that type."""
    try:
        number = float(text)
        if hint is int:
            return int(text) if text.lstrip("+-").isdecimal() else int(number) if number.is_integer() else None
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
