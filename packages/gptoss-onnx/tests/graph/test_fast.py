"""The structure of graphs in ONNX Runtime's own operators, and of those of one static shape."""

from collections import Counter

import onnx
import onnxruntime as ort
import pytest
from gptoss_onnx import StaticShape, export_onnx
from gptoss_weights import random_checkpoint
from gptoss_weights.testing import tiny_config

LAYERS = 4


def exported(tmp_path, *, head_dim=32, **options):
    folder = export_onnx(random_checkpoint(tiny_config(head_dim=head_dim), seed=1), tmp_path / "onnx", **options)
    onnx.checker.check_model(folder / "model.onnx", full_check=True)
    return onnx.load_model(folder / "model.onnx", load_external_data=False)


def attributes(node):
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def test_fast_has_one_operator_for_attention_and_one_for_experts_in_each_layer(tmp_path):
    model = exported(tmp_path, profile="fast")
    counts = Counter(node.op_type for node in model.graph.node)
    assert counts["GroupQueryAttention"] == counts["QMoE"] == LAYERS
    assert counts["Gemm"] == 5 * LAYERS + 1  # q, k, v, o and the router; the unembedding
    assert counts["Loop"] == counts["Softmax"] == counts["TopK"] == counts["Cos"] == 0
    assert {(opset.domain, opset.version) for opset in model.opset_import} == {("", 21), ("com.microsoft", 1)}


@pytest.mark.parametrize(
    ("options", "fused", "apart"),
    [
        ({"dense": "int8"}, 2 * LAYERS, 1),  # nothing is added before the first
        ({"dense": "int4", "probes": ["layers.1.attention_residual", "layers.2.output"]}, 2 * LAYERS - 1, 2),
        ({}, 0, 2 * LAYERS + 1),
    ],
    ids=str,
)
def test_where_matrices_are_rounded_one_operator_adds_and_normalises(options, fused, apart, tmp_path):
    counts = Counter(node.op_type for node in exported(tmp_path, profile="fast", **options).graph.node)
    assert (counts["SkipSimplifiedLayerNormalization"], counts["Sqrt"]) == (fused, apart)


def test_windows_sinks_and_rotation_stand_inside_the_attention(tmp_path):
    model = exported(tmp_path, profile="fast")
    nodes = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]
    for layer, node in enumerate(nodes):
        found = attributes(node)
        assert (found["do_rotary"], found["num_heads"], found["kv_num_heads"]) == (1, 10, 5)
        assert found.get("local_window_size", -1) == (11 if layer % 2 == 0 else -1)
        assert found.get("sliding_window_cache", 0) == (1 if layer % 2 == 0 else 0)
        assert node.input[11].startswith(f"model.layers.{layer}.self_attn.sinks")


def test_the_experts_are_int8_with_a_scale_for_32_columns_and_swiglu_as_the_official_code_has_it(tmp_path):
    model = exported(tmp_path, profile="fast")
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in (node for node in model.graph.node if node.op_type == "QMoE"):
        found = attributes(node)
        assert (found["expert_weight_bits"], found["block_size"], found["k"]) == (8, 32, 3)
        assert (found["activation_alpha"], found["activation_beta"]) == (pytest.approx(1.702), 1.0)
        assert found["swiglu_limit"] == 7.0
        assert tensors[node.input[2]].data_type == onnx.TensorProto.UINT8


@pytest.mark.parametrize(
    ("options", "operator", "count"),
    [
        ({"experts": "float32"}, "MoE", LAYERS),
        ({"experts": "mxfp4"}, "Loop", LAYERS),
        ({"dense": "int8"}, "MatMulNBits", 2 * LAYERS + 1),
        ({"dense": "int4"}, "MatMulNBits", 2 * LAYERS + 1),
    ],
    ids=str,
)
def test_other_forms_have_other_operators(options, operator, count, tmp_path):
    counts = Counter(node.op_type for node in exported(tmp_path, profile="fast", **options).graph.node)
    assert counts[operator] == count
    assert counts["Gemm"] == (LAYERS if "dense" in options else 5 * LAYERS + 1)  # the router is never rounded


def test_heads_that_the_operator_declines_have_the_manual_attention(tmp_path):
    counts = Counter(node.op_type for node in exported(tmp_path, head_dim=18, profile="fast").graph.node)
    assert counts["GroupQueryAttention"] == 0
    assert counts["QMoE"] == LAYERS


def test_probes_inside_a_fused_operator_come_from_a_loop_beside_it(tmp_path):
    model = exported(tmp_path, profile="fast", probes=["layers.2.activated", "layers.1.query"])
    counts = Counter(node.op_type for node in model.graph.node)
    assert (counts["Loop"], counts["QMoE"], counts["Cos"]) == (1, LAYERS, 1)


def test_a_static_graph_has_no_dynamic_axis_and_no_shape_that_depends_on_values(tmp_path):
    model = exported(tmp_path, head_dim=18, static=StaticShape(batch=2, length=24))
    values = [*model.graph.input, *model.graph.output]
    assert [value.name for value in values] == ["input_ids", "attention_mask", "logits"]
    assert [[axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values] == [
        [2, 24],
        [2, 24],
        [2, 24, 211],
    ]
    bodies = [a.g for node in model.graph.node for a in node.attribute if a.name == "body"]
    operators = {node.op_type for graph in (model.graph, *bodies) for node in graph.node}
    assert len(bodies) == LAYERS
    assert not operators & {"NonZero", "Unique", "GatherND", "ScatterND", "Compress"}


def test_cuda_reads_the_packed_bytes_and_computes_attention_and_experts_in_half_precision(tmp_path):
    source = random_checkpoint(tiny_config(head_dim=32), seed=1)
    model = exported(tmp_path, profile="cuda")
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type == "QMoE"]
    assert len(layers) == LAYERS
    for layer, node in enumerate(layers):
        found = attributes(node)
        assert (found["quant_type"], found["expert_weight_bits"], found["block_size"]) == (b"fp4", 4, 32)
        packed = source.read(f"model.layers.{layer}.mlp.experts.gate_up_proj")
        codes, scales = tensors[node.input[2]], tensors[node.input[3]]
        assert (codes.data_type, scales.data_type) == (onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT8E8M0)
        assert list(codes.dims) == [*packed.blocks.shape[:2], 48]
        assert list(scales.dims) == list(packed.scales.shape)
        assert all(node.input[place] == "" for place in range(8, 15))  # no third matrix, no zero points
        assert node.input[15] == node.input[16] != ""  # global scales of one
    cache = [value for value in model.graph.input if value.name.startswith("past_key_values")]
    assert {value.type.tensor_type.elem_type for value in cache} == {onnx.TensorProto.FLOAT16}


def test_cuda_has_the_types_that_onnx_runtime_wants_and_lacks_only_the_kernel_here(fast_runtime, tmp_path):
    exported(tmp_path, profile="cuda")
    with pytest.raises(Exception, match=r"Failed to find kernel for com\.microsoft\.QMoE") as caught:
        ort.InferenceSession(tmp_path / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    assert type(caught.value).__name__ == "NotImplemented"
