import numpy as np
from gptoss_onnx.graph.experts import swiglu


def apply(run_graph, gate: float, up: float) -> float:
    [found] = run_graph(lambda op, x: swiglu(op, x, limit=7.0), x=np.float32([[gate, up]]))
    return found.item()


def test_gate_stands_in_the_even_columns(run_graph):
    assert abs(apply(run_graph, gate=1.0, up=0.0) - 1 / (1 + np.exp(-1.702))) < 1e-6
    assert apply(run_graph, gate=0.0, up=5.0) == 0


def test_gate_is_limited_from_above_only(run_graph):
    assert apply(run_graph, gate=100.0, up=1.0) == apply(run_graph, gate=7.0, up=1.0)
    assert apply(run_graph, gate=-8.0, up=1.0) != apply(run_graph, gate=-7.0, up=1.0)


def test_up_is_limited_on_both_sides(run_graph):
    assert apply(run_graph, gate=1.0, up=100.0) == apply(run_graph, gate=1.0, up=7.0)
    assert apply(run_graph, gate=1.0, up=-100.0) == apply(run_graph, gate=1.0, up=-7.0)
