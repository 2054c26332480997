"""Builds GPT-OSS as ONNX and runs it in ONNX Runtime, with neither JAX nor PyTorch.

    folder = export_onnx(open_checkpoint("gpt-oss-20b/original"), "gpt-oss-20b-onnx")
    model = OnnxModel.open(folder)
    model.generate([[1, 2, 3]], max_new_tokens=16)

Names load when they are first used, so that running needs no exporter, nor exporting a runtime.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptoss_onnx.errors import RequestError
    from gptoss_onnx.export import ExportPlan, export_onnx, plan_export
    from gptoss_onnx.generation import generate, generate_steps
    from gptoss_onnx.kv_cache import KVCache
    from gptoss_onnx.metadata import ModelMetadata
    from gptoss_onnx.runtime import OnnxModel

__all__ = [
    "ExportPlan",
    "KVCache",
    "ModelMetadata",
    "OnnxModel",
    "RequestError",
    "export_onnx",
    "generate",
    "generate_steps",
    "plan_export",
]

_HOMES = {
    "ExportPlan": "export",
    "KVCache": "kv_cache",
    "ModelMetadata": "metadata",
    "OnnxModel": "runtime",
    "RequestError": "errors",
    "export_onnx": "export",
    "generate": "generation",
    "generate_steps": "generation",
    "plan_export": "export",
}


def __getattr__(name: str) -> object:
    """Loads a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
