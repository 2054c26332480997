"""ONNX files of other exporters: ids in, logits out."""

import numpy as np
import onnx
import pytest
from gptoss_parity.sources.foreign_onnx import ForeignOnnx
from gptoss_weights import CheckpointError
from onnx import TensorProto, helper, numpy_helper

VOCABULARY, TABLE = 13, np.random.default_rng(0).normal(size=(13, 13)).astype(np.float32)


def written(path, input_shape, *, dtype=TensorProto.INT32, width=VOCABULARY):
    """A graph whose logits are a row of a table for each id."""
    nodes = [helper.make_node("Gather", ["table", "ids"], ["logits"])]
    inputs = [helper.make_tensor_value_info("ids", dtype, input_shape)]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*input_shape, width])]
    table = numpy_helper.from_array(np.ascontiguousarray(TABLE[:, :width]), "table")
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("shape", [["T"], [8], ["B", "T"], [1, 8], [2, 8]])
@pytest.mark.parametrize("dtype", [TensorProto.INT32, TensorProto.INT64])
def test_logits_are_those_of_the_prompt(tmp_path, shape, dtype):
    model = ForeignOnnx.open(written(tmp_path / "model.onnx", shape, dtype=dtype), vocab_size=VOCABULARY, threads=1)
    np.testing.assert_array_equal(model.logits(np.array([3, 1, 4])), TABLE[[3, 1, 4]])


def test_prompt_longer_than_the_graph_is_refused(tmp_path):
    model = ForeignOnnx.open(written(tmp_path / "model.onnx", [2]), vocab_size=VOCABULARY)
    with pytest.raises(CheckpointError, match="exported for fewer tokens; expected at most 2; found 3"):
        model.logits(np.array([3, 1, 4]))


def test_graph_of_another_vocabulary_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="does not give logits"):
        ForeignOnnx.open(written(tmp_path / "model.onnx", ["T"], width=5), vocab_size=VOCABULARY)


def test_graph_that_takes_no_ids_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    node = helper.make_node("Identity", ["x"], ["logits"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["T", VOCABULARY]) for name in ("x", "logits")]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(CheckpointError, match="does not take token ids alone"):
        ForeignOnnx.open(path, vocab_size=VOCABULARY)


def test_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="ONNX Runtime cannot load the file"):
        ForeignOnnx.open(tmp_path / "model.onnx", vocab_size=VOCABULARY)
