"""Builds GPT-OSS as ONNX and runs it in ONNX Runtime, with neither JAX nor PyTorch.

    folder = export_onnx(open_checkpoint("gpt-oss-20b/original"), "gpt-oss-20b-onnx")
    model = OnnxModel.open(folder)
    model.generate([[1, 2, 3]], max_new_tokens=16)

Names load when they are first used, so that running needs no exporter, nor exporting a runtime.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptoss_weights.completions import Completion, NewToken

    from gptoss_onnx.errors import OptionError, RequestError
    from gptoss_onnx.export import ExportPlan, export_onnx, plan_export
    from gptoss_onnx.generation import complete, generate, stream
    from gptoss_onnx.kv_cache import Cache
    from gptoss_onnx.metadata import ModelMetadata
    from gptoss_onnx.recipe import Recipe, StaticShape
    from gptoss_onnx.runtime import OnnxModel

__all__ = [
    "Cache",
    "Completion",
    "ExportPlan",
    "ModelMetadata",
    "NewToken",
    "OnnxModel",
    "OptionError",
    "Recipe",
    "RequestError",
    "StaticShape",
    "complete",
    "export_onnx",
    "generate",
    "plan_export",
    "stream",
]

_HOMES = {
    "Cache": "kv_cache",
    "Completion": "generation",
    "ExportPlan": "export",
    "ModelMetadata": "metadata",
    "NewToken": "generation",
    "OnnxModel": "runtime",
    "OptionError": "errors",
    "Recipe": "recipe",
    "RequestError": "errors",
    "StaticShape": "recipe",
    "complete": "generation",
    "export_onnx": "export",
    "generate": "generation",
    "plan_export": "export",
    "stream": "generation",
}


def __getattr__(name: str) -> object:
    """Loads a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
