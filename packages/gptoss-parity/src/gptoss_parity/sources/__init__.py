"""The implementations that can be traced; each is imported when it is asked for, and not before."""

import importlib
import importlib.util
import sys
from typing import Any, NamedTuple

from gptoss_weights import MissingDependencyError

from gptoss_parity.sources.base import DTYPES, Dtype, ExpertChoices, GenerativeSource, LoadingSource, Source
from gptoss_parity.sources.golden import GoldenSource

__all__ = [
    "DTYPES",
    "SOURCES",
    "Dtype",
    "ExpertChoices",
    "GenerativeSource",
    "GoldenSource",
    "LoadingSource",
    "Source",
    "install_command",
    "make_source",
    "missing_packages",
]


class _Entry(NamedTuple):
    module: str
    class_name: str
    extra: str
    imports: tuple[str, ...]  # top-level modules that the extra brings


_ENTRIES = {
    "torch": _Entry("openai_torch", "OpenAITorchSource", "torch", ("gpt_oss", "torch")),
    "hf": _Entry("transformers", "TransformersSource", "hf", ("transformers", "torch")),
    "jax": _Entry("jax", "JaxSource", "jax", ("gptoss_model", "flax", "jax")),
    "onnx": _Entry("onnx", "OnnxSource", "onnx", ("gptoss_onnx", "onnx", "onnxruntime")),
    "numpy": _Entry("plain", "PlainSource", "", ()),
}
SOURCES = tuple(_ENTRIES)


def missing_packages(name: str) -> tuple[str, ...]:
    """The modules that a source needs and that are not installed; nothing is imported to find out.

    Raises:
        ValueError: there is no such source.
    """
    return tuple(module for module in _entry(name).imports if not _is_installed(module))


def install_command(name: str) -> str:
    """What installs a source's extra.

    Raises:
        ValueError: there is no such source.
    """
    return f"pip install 'gptoss-parity[{_entry(name).extra}]'"


def make_source(name: str, **options: Any) -> Source:
    """The source of that name, one of `SOURCES`; `options` are the keywords of its class.

    Raises:
        ValueError: there is no such source.
        MissingDependencyError: the extra that it needs is not installed.
    """
    entry = _entry(name)
    try:
        module = importlib.import_module(f"gptoss_parity.sources.{entry.module}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in entry.imports:
            raise
        raise MissingDependencyError(
            f"the source {name!r} needs the package {missing!r}, which is not installed",
            fix=f"Install it with: {install_command(name)}",
        ) from None
    source: Source = getattr(module, entry.class_name)(**options)
    return source


def _entry(name: str) -> _Entry:
    if name not in _ENTRIES:
        raise ValueError(f"no source is called {name!r}; there are {', '.join(SOURCES)}")
    return _ENTRIES[name]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # it is in sys.modules as None, or half imported
        return sys.modules.get(module) is not None
