"""The implementations that can be traced; each is imported when it is asked for, and not before."""

import importlib
from typing import Any, NamedTuple

from gptoss_weights import MissingDependencyError

from gptoss_parity.sources.base import DTYPES, Dtype, GenerativeSource, Source
from gptoss_parity.sources.golden import GoldenSource

__all__ = ["DTYPES", "SOURCES", "Dtype", "GenerativeSource", "GoldenSource", "Source", "make_source"]


class _Entry(NamedTuple):
    module: str
    class_name: str
    extra: str
    imports: tuple[str, ...]  # top-level modules that the extra brings


_ENTRIES = {
    "torch": _Entry("openai_torch", "OpenAITorchSource", "torch", ("gpt_oss", "torch")),
    "hf": _Entry("transformers", "TransformersSource", "hf", ("transformers", "torch")),
    "jax": _Entry("jax", "JaxSource", "jax", ("gptoss_model", "flax", "jax")),
    "onnx": _Entry("onnx", "OnnxSource", "onnx", ("gptoss_onnx", "onnx", "onnx_ir", "onnxruntime")),
    "numpy": _Entry("plain", "PlainSource", "", ()),
}
SOURCES = tuple(_ENTRIES)


def make_source(name: str, **options: Any) -> Source:
    """The source of that name, one of `SOURCES`; `options` are the keywords of its class.

    Raises:
        ValueError: there is no such source.
        MissingDependencyError: the extra that it needs is not installed.
    """
    if name not in _ENTRIES:
        raise ValueError(f"no source is called {name!r}; there are {', '.join(SOURCES)}")
    entry = _ENTRIES[name]
    try:
        module = importlib.import_module(f"gptoss_parity.sources.{entry.module}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in entry.imports:
            raise
        raise MissingDependencyError(
            f"the source {name!r} needs the package {missing!r}, which is not installed",
            fix=f"Install it with: pip install 'gptoss-parity[{entry.extra}]'",
        ) from None
    source: Source = getattr(module, entry.class_name)(**options)
    return source
