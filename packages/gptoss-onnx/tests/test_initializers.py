from gptoss_onnx import ir
from gptoss_onnx.graph import GraphBuilder, PackedExperts
from gptoss_onnx.initializers import ExternalParameters
from gptoss_onnx.weight_files import plan_weight_files


def test_a_bf16_matrix_is_cast_inside_the_graph(checkpoint, tmp_path):
    op = GraphBuilder()
    value = ExternalParameters(op, plan_weight_files(checkpoint, tmp_path), checkpoint.specs).float32("lm_head.weight")
    [cast] = op.nodes
    assert cast.op_type == "Cast"
    assert cast.outputs[0] is value
    assert cast.inputs[0].dtype == ir.DataType.BFLOAT16


def test_experts_are_the_two_halves_of_a_packed_tensor(checkpoint, tmp_path):
    parameters = ExternalParameters(GraphBuilder(), plan_weight_files(checkpoint, tmp_path), checkpoint.specs)
    packed = parameters.experts("model.layers.0.mlp.experts.down_proj")
    assert isinstance(packed, PackedExperts)
    assert packed.blocks.dtype == packed.scales.dtype == ir.DataType.UINT8


def test_an_initializer_says_where_its_bytes_stand(checkpoint, tmp_path):
    files = plan_weight_files(checkpoint, tmp_path)
    tensor = ExternalParameters(GraphBuilder(), files, checkpoint.specs).stored("model.norm.weight").tensor
    place = files.tensors["model.norm.weight"]
    assert (str(tensor.path), tensor.offset, tensor.length) == (str(place.path), place.offset, place.nbytes)
