"""Which steps a model wants."""

import onnxruntime as ort

from gptoss_onnx.metadata import ModelMetadata
from gptoss_onnx.stepping.growing import GrowingSteps
from gptoss_onnx.stepping.shared import SharedSteps
from gptoss_onnx.stepping.static import StaticSteps
from gptoss_onnx.stepping.steps import Steps

__all__ = ["choose_steps"]


def choose_steps(session: ort.InferenceSession, metadata: ModelMetadata) -> Steps:
    """The steps for a model: by its static shape or its kind of attention."""
    recipe, config = metadata.recipe, metadata.config
    if recipe.static is not None:
        return StaticSteps(session, config, recipe.static)
    if recipe.attention == "grouped-query":
        return SharedSteps(session, config)
    return GrowingSteps(session, config)
