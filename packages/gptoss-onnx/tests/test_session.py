import onnx
import pytest
from gptoss_onnx import OnnxModel
from gptoss_onnx.session import session_options
from gptoss_weights import CheckpointError


def weight_file(folder):
    return sorted(folder.glob("*.safetensors"))[0]


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no model\.onnx.*gptoss-onnx export"):
        OnnxModel.open(tmp_path)


def test_a_missing_weight_file_is_named(copied):
    weights = weight_file(copied)
    weights.unlink()
    with pytest.raises(CheckpointError, match=f"{weights.name} is missing.*move the folder as a whole"):
        OnnxModel.open(copied)


def test_all_missing_weight_files_are_named_at_once(copied):
    for weights in copied.glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(CheckpointError, match=r"00000-of.*is missing; .*00001-of.*is missing"):
        OnnxModel.open(copied)


def test_a_truncated_weight_file_is_named_with_both_sizes(copied):
    weights = weight_file(copied)
    size = weights.stat().st_size
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=f"{weights.name} has {size - 100} bytes instead of {size}"):
        OnnxModel.open(copied)


def test_a_weight_file_that_was_replaced_is_noticed_by_its_header(copied):
    weights = weight_file(copied)
    content = bytearray(weights.read_bytes())
    content[20] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{weights.name} is not the file that was exported"):
        OnnxModel.open(copied)


def test_what_is_no_onnx_file_is_refused(copied):
    (copied / "model.onnx").write_bytes(b"<html>")
    with pytest.raises(CheckpointError, match=r"model\.onnx: this is no ONNX model"):
        OnnxModel.open(copied)


def test_a_model_that_onnx_runtime_cannot_open_is_one_sentence(copied):
    path = copied / "model.onnx"
    model = onnx.load_model(path, load_external_data=False)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save_model(model, path)
    with pytest.raises(CheckpointError, match=r"ONNX Runtime .* cannot open the model") as caught:
        OnnxModel.open(copied)
    assert "\n" not in str(caught.value)


def test_threads_and_the_options_that_change_results_are_explicit():
    options = session_options(threads=3, is_prepacked=True)
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.set_denormal_as_zero") == "0"
    assert options.get_session_config_entry("session.disable_prepacking") == "0"
