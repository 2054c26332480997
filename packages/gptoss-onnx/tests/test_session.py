import onnx
import pytest
from gptoss_onnx import OnnxModel, OptionError, RequestError, export_onnx
from gptoss_onnx.session import session_options
from gptoss_weights import CheckpointError, MissingDependencyError, random_checkpoint
from gptoss_weights.testing import tiny_config


def weight_file(folder):
    return sorted(folder.glob("*.safetensors"))[0]


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no model\.onnx.*gptoss-onnx export"):
        OnnxModel.open(tmp_path)


def test_numbers_that_make_no_sense_are_refused(copied):
    with pytest.raises(OptionError, match="threads is at least 1"):
        OnnxModel.open(copied, threads=-1)
    for sizes in ({"batch": 0}, {"batch": -1}, {"max_length": 0}):
        with pytest.raises(RequestError, match="a cache needs a batch and a max_length of at least 1"):
            OnnxModel.open(copied).init_cache(**sizes)


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


@pytest.fixture(scope="module")
def fast_folder(tmp_path_factory, fast_runtime):
    checkpoint = random_checkpoint(tiny_config(head_dim=32), seed=2)
    return export_onnx(checkpoint, tmp_path_factory.mktemp("fast") / "onnx", profile="fast")


def test_an_older_onnx_runtime_is_refused_with_the_one_that_it_takes(fast_folder, monkeypatch):
    monkeypatch.setattr("onnxruntime.__version__", "1.28.3")
    with pytest.raises(
        MissingDependencyError, match=r"profile fast; expected 1\.29 or newer; found 1\.28\.3.*pip inst"
    ):
        OnnxModel.open(fast_folder)


def test_linked_weights_need_a_runtime_that_can_look_elsewhere(checkpoint, tmp_path, monkeypatch):
    folder = export_onnx(checkpoint, tmp_path / "linked", link_weights=True)
    monkeypatch.setattr("onnxruntime.__version__", "1.20.1")
    with pytest.raises(MissingDependencyError, match=r"with linked weights; expected 1\.21 or newer; found 1\.20\.1"):
        OnnxModel.open(folder)


def test_a_provider_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxruntime.__version__", "1.31.0")
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    folder = export_onnx(random_checkpoint(tiny_config(head_dim=32), seed=2), tmp_path / "cuda", profile="cuda")
    with pytest.raises(MissingDependencyError, match="no CUDAExecutionProvider, which an export of profile cuda needs"):
        OnnxModel.open(folder)


def test_a_cuda_export_is_for_programs_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxruntime.__version__", "1.31.0")
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    folder = export_onnx(random_checkpoint(tiny_config(head_dim=32), seed=2), tmp_path / "cuda", profile="cuda")
    with pytest.raises(OptionError, match="has never run one; export with profile fast or portable"):
        OnnxModel.open(folder)


def test_prepacking_decides_the_mode(fast_runtime, tmp_path):
    config = tiny_config(hidden_size=160, intermediate_size=96)
    folder, seen = export_onnx(random_checkpoint(config, seed=1), tmp_path / "onnx", profile="fast"), {}
    for mode in ("exact", "turbo"):
        options = OnnxModel.open(folder, mode=mode)._steps._session.get_session_options()
        seen[mode] = options.get_session_config_entry("session.disable_prepacking")
    assert seen == {"exact": "1", "turbo": "0"}


def test_matrices_that_no_kernel_rounds_are_always_prepacked(fast_runtime, tmp_path):
    config = tiny_config(hidden_size=160, intermediate_size=96)
    folder = export_onnx(random_checkpoint(config, seed=1), tmp_path / "onnx", profile="fast", experts="float32")
    options = OnnxModel.open(folder)._steps._session.get_session_options()
    assert options.get_session_config_entry("session.disable_prepacking") == "0"


def test_modes_that_an_export_does_not_have_are_refused(fast_folder, copied, tmp_path):
    with pytest.raises(OptionError, match="mode turbo needs an export with profile fast, and this one is portable"):
        OnnxModel.open(copied, mode="turbo")
    with pytest.raises(OptionError, match="no mode is called quick; there are exact, turbo"):
        OnnxModel.open(fast_folder, mode="quick")
    rounded = export_onnx(random_checkpoint(tiny_config(), seed=1), tmp_path / "r", profile="fast", dense="int8")
    with pytest.raises(OptionError, match="rounded to int8, so there is no mode exact"):
        OnnxModel.open(rounded)
    assert OnnxModel.open(rounded, mode="turbo").generate([[1]], max_new_tokens=1)
