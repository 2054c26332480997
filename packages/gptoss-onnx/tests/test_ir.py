import numpy as np
import onnx
import pytest
from gptoss_onnx import ir
from gptoss_onnx.graph import GraphBuilder
from onnx.reference import ReferenceEvaluator


def doubled(op: GraphBuilder, x: ir.Value) -> ir.Value:
    return op.Mul(x, op.scalar(2.0))


def as_proto(op: GraphBuilder, inputs: list[ir.Value], outputs: list[ir.Value]) -> onnx.ModelProto:
    graph = op.graph("test", inputs, outputs)
    ir.remove_unused(graph)
    return ir.model_proto(graph, ir_version=10, producer=("me", "1"), metadata={"key": "value"})


def looped(op: GraphBuilder, x: ir.Value, step: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
    """x + 3 · step, where the body reads `step` from outside and computes something that nobody wants."""
    turn, going_on = op.input("turn", ir.DataType.INT64), op.input("going_on", ir.DataType.BOOL)
    total = op.input("total", ir.DataType.FLOAT, 2)
    with op.body() as nodes:
        op.Neg(total, name="unwanted")
        outputs = [op.Identity(going_on), op.Add(total, step, name="added")]
    body = ir.Graph(name="body", inputs=[turn, going_on, total], outputs=outputs, nodes=nodes)
    return op.Loop(op.scalar(3, np.int64), op.scalar(True, np.bool_), x, body=body), nodes


def test_what_no_output_needs_is_left_out_in_bodies_too():
    op = GraphBuilder()
    x = op.input("x", ir.DataType.FLOAT, 2)
    step = doubled(op, x)
    op.Neg(op.constant([7.0], np.float32), name="unwanted")
    result, _ = looped(op, x, step)
    result.dtype, result.shape = ir.DataType.FLOAT, (2,)
    proto = as_proto(op, [x], [result])
    assert [node.op_type for node in proto.graph.node] == ["Mul", "Loop"]
    [body] = [attribute.g for attribute in proto.graph.node[1].attribute]
    assert [node.op_type for node in body.node] == ["Identity", "Add"]
    assert not any("7.0" in tensor.name for tensor in proto.graph.initializer)
    onnx.checker.check_model(proto, full_check=True)


def test_what_only_a_body_reads_is_kept():
    op = GraphBuilder()
    x = op.input("x", ir.DataType.FLOAT, 2)
    result, _ = looped(op, x, doubled(op, x))
    [value] = ReferenceEvaluator(as_proto(op, [x], [result])).run(None, {"x": np.float32([1, 2])})
    assert value.tolist() == [7, 14]


def test_an_absent_input_keeps_its_place_and_trailing_ones_go():
    op = GraphBuilder()
    x = op.input("x", ir.DataType.FLOAT, 2)
    proto = as_proto(op, [x], [op.Clip(x, None, op.scalar(1.0)), op.Clip(x, op.scalar(0.0), None)])
    assert [list(node.input)[1:] for node in proto.graph.node] == [
        ["", "constant.float32.scalar.1.0"],
        ["constant.float32.scalar.0.0"],
    ]


def test_a_value_takes_its_last_name():
    op = GraphBuilder()
    x = op.input("x", ir.DataType.FLOAT, 2)
    result = doubled(op, x)
    result.name = "result"
    proto = as_proto(op, [x], [result])
    assert list(proto.graph.node[0].output) == [proto.graph.output[0].name] == ["result"]


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int8", "int32", "int64", "bool", "float16"])
def test_an_array_is_the_same_in_the_proto(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    found = onnx.numpy_helper.to_array(ir.ArrayTensor(array, "x").to_proto())
    assert found.dtype == array.dtype
    assert (found == array).all()


def test_a_strided_array_is_written_in_order():
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert (onnx.numpy_helper.to_array(ir.ArrayTensor(array).to_proto()) == array).all()


def test_an_external_tensor_says_where_its_bytes_stand():
    tensor = ir.ExternalTensor(
        name="x", dtype=ir.DataType.BFLOAT16, shape=(2, 3), path="a.safetensors", offset=8, length=12
    )
    proto = tensor.to_proto()
    assert {entry.key: entry.value for entry in proto.external_data} == {
        "location": "a.safetensors",
        "offset": "8",
        "length": "12",
    }
    assert (proto.data_location, proto.data_type, list(proto.dims)) == (
        onnx.TensorProto.EXTERNAL,
        onnx.TensorProto.BFLOAT16,
        [2, 3],
    )


def test_the_model_says_who_made_it():
    op = GraphBuilder()
    x = op.input("x", ir.DataType.FLOAT, "rows", None)
    proto = as_proto(op, [x], [doubled(op, x)])
    assert (proto.producer_name, proto.producer_version, proto.ir_version) == ("me", "1", 10)
    assert [(entry.key, entry.value) for entry in proto.metadata_props] == [("key", "value")]
    [rows, columns] = proto.graph.input[0].type.tensor_type.shape.dim
    assert rows.dim_param == "rows"
    assert not columns.HasField("dim_param")
    assert not columns.HasField("dim_value")
