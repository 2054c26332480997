import numpy as np
import pytest
from gptoss_onnx import ir
from gptoss_onnx.graph import GraphBuilder


def test_operators_are_methods_and_run(run_graph):
    [result] = run_graph(lambda op, x: op.Mul(op.Add(x, op.scalar(1.0)), op.scalar(2.0)), x=np.float32([1, 2]))
    assert result.tolist() == [4, 6]


def test_a_misspelled_helper_is_no_operator():
    with pytest.raises(AttributeError, match="reshap is neither an ONNX operator"):
        GraphBuilder().reshap(None)


def test_names_follow_the_scopes_and_are_numbered_when_taken():
    op = GraphBuilder()
    x = op.ints(1)
    with op.scope("model"), op.scope("norm"):
        names = [op.Neg(x).name, op.Neg(x).name, op.Neg(x, name="x").name]
    assert names == ["model.norm.Neg", "model.norm.Neg_2", "model.norm.x"]


def test_names_in_a_body_differ_from_all_others():
    op = GraphBuilder()
    outer = op.Neg(op.ints(1))
    with op.body() as nodes:
        inner = op.Neg(outer)
    assert outer.name != inner.name
    assert [node.outputs[0] for node in nodes] == [inner]
    assert [node.outputs[0] for node in op.nodes] == [outer]


def test_outputs_of_one_operator_are_numbered():
    op = GraphBuilder()
    assert [value.name for value in op.many("TopK", 2, op.ints(1), op.ints(1))] == ["TopK.0", "TopK.1"]


def test_equal_constants_are_one_initializer():
    op = GraphBuilder()
    assert op.ints(1, 2) is op.ints(1, 2)
    assert op.scalar(1.0) is not op.scalar(1, np.int64)
    assert op.scalar(0.0) is not op.scalar(-0.0)
    assert len(op.initializers) == 5


def test_an_initializer_is_made_once_per_name():
    op = GraphBuilder()
    tensor = ir.ArrayTensor(np.float32([1]), "w")
    assert op.initializer(tensor) is op.initializer(tensor)


def test_an_initializer_without_a_name_is_refused():
    with pytest.raises(ValueError, match="needs a name"):
        GraphBuilder().initializer(ir.ArrayTensor(np.float32([1])))


def test_reshape_mixes_numbers_and_sizes(run_graph):
    [result] = run_graph(lambda op, x: op.reshape(x, op.size(x, 1), 2, -1), x=np.zeros((4, 3), np.float32))
    assert result.shape == (3, 2, 2)


def test_slice_takes_every_second_column(run_graph):
    [result] = run_graph(lambda op, x: op.slice(x, 1, 6, axis=1, step=2), x=np.arange(6.0, dtype=np.float32)[None])
    assert result.tolist() == [[1, 3, 5]]
