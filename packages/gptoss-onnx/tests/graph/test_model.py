"""The structure of the exported graph: operators, counts, names, axes."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from gptoss_onnx import export_onnx
from gptoss_onnx.graph import GraphBuilder, build_graph, graph_probes
from gptoss_weights import probe_specs
from gptoss_weights.testing import tiny_config


@pytest.fixture(scope="module")
def proto(exported):
    return onnx.load_model(exported / "model.onnx", load_external_data=False)


@pytest.fixture(scope="module")
def proto_without_probes(checkpoint, tmp_path_factory):
    folder = export_onnx(checkpoint, tmp_path_factory.mktemp("plain") / "onnx")
    return onnx.load_model(folder / "model.onnx", load_external_data=False)


def body(loop: onnx.NodeProto) -> onnx.GraphProto:
    return next(attribute.g for attribute in loop.attribute if attribute.name == "body")


def loops(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in proto.graph.node if node.op_type == "Loop"]


def all_nodes(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [*proto.graph.node, *(node for loop in loops(proto) for node in body(loop).node)]


def axes(values) -> dict[str, list[str | int]]:
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values
    }


def test_opset_21_of_the_standard_domain_is_all_it_needs(proto):
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 21)]
    assert {node.domain for node in all_nodes(proto)} == {""}
    assert proto.ir_version == 10


def test_each_layer_has_one_loop_and_the_dense_products_it_should_have(proto_without_probes, checkpoint):
    proto, layers = proto_without_probes, checkpoint.config.num_hidden_layers
    outside = Counter(node.op_type for node in proto.graph.node)
    assert outside["Loop"] == layers
    assert outside["Gemm"] == 5 * layers + 1  # q, k, v, o, router; the unembedding
    assert outside["MatMul"] == outside["Softmax"] == 2 * layers  # scores and values; attention and router
    assert outside["GatherND"] == 2 * ((layers + 1) // 2)  # keys and values that a sliding layer keeps
    assert outside["TopK"] == layers + 1  # the routers; the kept rows, once for all
    assert outside["Cos"] == outside["Sin"] == outside["CumSum"] == 1
    for loop in loops(proto):
        inside = Counter(node.op_type for node in body(loop).node)
        assert inside["Gemm"] == inside["DequantizeLinear"] == 4  # two matrices, even and odd columns
        assert inside["NonZero"] == inside["ScatterND"] == 1


def test_probes_inside_the_experts_are_carried_by_the_loop_that_computes_them(proto, proto_without_probes):
    for loop, plain in zip(loops(proto), loops(proto_without_probes), strict=True):
        assert len(plain.output) == 1
        assert len(loop.output) == 4  # the sum; pre-activation, activated, expert outputs
        inside = Counter(node.op_type for node in body(loop).node)
        assert inside["Gemm"] == inside["DequantizeLinear"] == 4  # nothing is computed twice
        assert inside["ScatterND"] == 4


def test_names_are_unique_over_the_graph_and_its_bodies(proto):
    nodes = [node.name for node in all_nodes(proto)]
    values = [
        *(value.name for value in proto.graph.input if value.name != "logits_to_keep"),  # its default is next
        *(tensor.name for tensor in proto.graph.initializer),
        *(value.name for loop in loops(proto) for value in body(loop).input),
        *(output for node in all_nodes(proto) for output in node.output),
    ]
    assert len(set(nodes)) == len(nodes)
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.3.self_attn.q_proj",
        "model.layers.0.self_attn.softmax_with_sink",
        "model.layers.1.mlp.router",
        "model.layers.2.mlp.experts",
        "lm_head",
    ],
)
def test_nodes_are_called_as_the_parameters_that_they_use(name, proto):
    assert name in {node.name for node in proto.graph.node}


def test_inputs_have_a_dynamic_batch_and_length(proto, checkpoint):
    c = checkpoint.config
    inputs = axes(proto.graph.input)
    assert inputs.pop("input_ids") == ["batch", "sequence"]
    assert inputs.pop("attention_mask") == ["batch", "total"]
    assert inputs.pop("logits_to_keep") == [1]
    expected = {
        f"past_key_values.{layer}.{part}": [
            "batch",
            c.num_key_value_heads,
            "past_total" if layer % 2 else "past_window",
            c.head_dim,
        ]
        for layer in range(c.num_hidden_layers)
        for part in ("key", "value")
    }
    assert inputs == expected


def test_outputs_are_logits_cache_and_the_probes_in_order(proto, checkpoint):
    c = checkpoint.config
    outputs = axes(proto.graph.output)
    cache = [f"present.{layer}.{part}" for layer in range(c.num_hidden_layers) for part in ("key", "value")]
    assert list(outputs) == ["logits", *cache, *graph_probes(c)]
    assert outputs.pop("logits") == ["batch", "kept", c.vocab_size]
    for name, spec in probe_specs(c, 1, block_debug=True).items():
        if name not in ("tokens", "logits"):
            assert outputs[name] == ["batch", "sequence", *spec.shape[1:]]


def test_experts_are_the_packed_bytes_themselves(proto, checkpoint):
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    blocks = tensors["model.layers.0.mlp.experts.gate_up_proj_blocks"]
    assert blocks.data_type == onnx.TensorProto.UINT8
    assert blocks.data_location == onnx.TensorProto.EXTERNAL
    assert list(blocks.dims) == list(checkpoint.read("model.layers.0.mlp.experts.gate_up_proj").blocks.shape)


def test_no_weight_stands_in_the_graph_itself(proto):
    inside = [t for t in proto.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
    assert all(tensor.name.startswith("constant.") or tensor.name == "logits_to_keep" for tensor in inside)


def test_logits_of_the_last_columns_are_all_that_is_computed_where_no_others_are_wanted(exported, tokens, model):
    """As any program may ask: the input is optional, and by default every column has logits."""
    session = ort.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    rows = np.stack([tokens, tokens[::-1]])
    feeds = {"input_ids": rows, "attention_mask": np.ones_like(rows)}
    for value in session.get_inputs()[2:]:
        feeds[value.name] = np.zeros([2 if d == "batch" else 0 if isinstance(d, str) else d for d in value.shape], "f4")
    [every] = session.run(["logits"], feeds)
    assert every.shape == (*rows.shape, model.config.vocab_size)
    for keep in (1, 3, len(tokens), len(tokens) + 5):
        [logits] = session.run(["logits"], feeds | {"logits_to_keep": np.array([keep])})
        np.testing.assert_array_equal(logits, every[:, -keep:])


def test_an_unknown_probe_is_refused_by_name():
    with pytest.raises(ValueError, match=r"no probe is called layers\.9\.output"):
        build_graph(GraphBuilder(), tiny_config(), None, probes=["layers.9.output"])
