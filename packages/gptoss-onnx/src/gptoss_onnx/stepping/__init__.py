"""How a graph is run step by step: one file for each kind of cache that a graph can have."""

from gptoss_onnx.stepping.choice import choose_steps
from gptoss_onnx.stepping.steps import Piece, Steps

__all__ = ["Piece", "Steps", "choose_steps"]
