"""Exporting and running load neither JAX nor PyTorch, nor one the other; nor anything that makes the start slow."""

import subprocess
import sys

FRAMEWORKS = ("jax", "jaxlib", "flax", "torch", "transformers", "gptoss_model")


def loaded_after(script: str) -> set[str]:
    return {name.partition(".")[0] for name in modules_after(script)}


def modules_after(script: str) -> set[str]:
    code = f"{script}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_exporting_loads_no_framework_and_no_runtime(checkpoint_folder, tmp_path):
    loaded = loaded_after(
        "from gptoss_onnx import export_onnx\nfrom gptoss_weights import open_checkpoint\n"
        f"export_onnx(open_checkpoint({str(checkpoint_folder)!r}), {str(tmp_path / 'onnx')!r})"
    )
    assert "onnx" in loaded
    assert loaded.isdisjoint({*FRAMEWORKS, "onnxruntime", "onnx_ir", "sympy"})


def test_running_loads_no_framework_and_no_exporter(exported):
    loaded = modules_after(
        f"from gptoss_onnx import OnnxModel\nOnnxModel.open({str(exported)!r}).generate([[1, 2]], max_new_tokens=2)"
    )
    assert {"onnxruntime", "gptoss_onnx.runtime"} <= loaded
    assert loaded.isdisjoint({*FRAMEWORKS, "gptoss_onnx.ir", "gptoss_onnx.export", "gptoss_onnx.graph"})


def test_the_command_line_loads_nothing_heavy_before_a_command_is_chosen():
    loaded = loaded_after("import gptoss_onnx.cli")
    assert loaded.isdisjoint({*FRAMEWORKS, "numpy", "onnx", "onnxruntime"})
