"""The graph, one file per idea, in pure `ai.onnx` operators."""

from gptoss_onnx.graph.builder import GraphBuilder
from gptoss_onnx.graph.model import OPSET, build_graph, graph_probes
from gptoss_onnx.graph.parameters import PackedExperts, Parameters

__all__ = ["OPSET", "GraphBuilder", "PackedExperts", "Parameters", "build_graph", "graph_probes"]
