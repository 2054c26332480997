"""The graph, one file per idea: in pure `ai.onnx` operators, or in those of ONNX Runtime where the recipe says so."""

from gptoss_onnx.graph.builder import OPSET, GraphBuilder
from gptoss_onnx.graph.component import COMPONENT_PROBES, COMPONENT_TENSORS, build_component_graph
from gptoss_onnx.graph.model import build_graph, graph_probes
from gptoss_onnx.graph.parameters import Fp4Experts, Int8Experts, Kernel, PackedExperts, Parameters, RoundedMatrix

__all__ = [
    "COMPONENT_PROBES",
    "COMPONENT_TENSORS",
    "OPSET",
    "Fp4Experts",
    "GraphBuilder",
    "Int8Experts",
    "Kernel",
    "PackedExperts",
    "Parameters",
    "RoundedMatrix",
    "build_component_graph",
    "build_graph",
    "graph_probes",
]
