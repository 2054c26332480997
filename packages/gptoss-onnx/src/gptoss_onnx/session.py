"""Opening an exported folder in ONNX Runtime: its files are checked first, its options are all explicit.

ONNX Runtime maps weight files instead of reading them, so a file that is missing, cut short or
replaced shows late, as an opaque error or as wrong numbers. The metadata knows what each file was.
"""

import dataclasses
from pathlib import Path

import onnx
import onnxruntime as ort
from gptoss_weights import CheckpointError

from gptoss_onnx.metadata import MODEL_FILE, ModelMetadata, WeightFileMark

__all__ = ["OpenedModel", "open_session"]

_LOG_ERRORS_ONLY = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A session that is ready to run, and what the model says about itself."""

    session: ort.InferenceSession
    metadata: ModelMetadata


def open_session(folder: Path, *, threads: int | None) -> OpenedModel:
    """Opens `model.onnx` in a folder that `export_onnx` made.

    Args:
        folder: The folder.
        threads: How many ONNX Runtime uses; None for one a core.

    Raises:
        CheckpointError: there is no such model, or a weight file is missing or not the one of the export.
    """
    path = folder / MODEL_FILE
    metadata = _read_metadata(path)
    _check_weight_files(folder, metadata)
    try:
        session = ort.InferenceSession(path, session_options(threads=threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no base but this
        raise CheckpointError(
            f"ONNX Runtime {ort.__version__} cannot open the model ({' '.join(str(error).split())})", where=path
        ) from error
    return OpenedModel(session=session, metadata=metadata)


def session_options(*, threads: int | None) -> ort.SessionOptions:
    """Every option on which results, memory or speed depend, whatever the defaults of a release are.

    Folding and prepacking stay on: the dense matrices are bf16 under a Cast, and folding keeps them
    as f32 (twice their bytes in memory). Without it decoding is half as fast and takes no less memory,
    since each step casts them again. The experts are never folded: they stay mapped.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.enable_mem_pattern = False  # a plan for each shape that was ever seen; every decode step is a new one
    options.enable_cpu_mem_arena = True
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.add_session_config_entry("session.set_denormal_as_zero", "0")  # MXFP4's smallest scales are subnormal
    options.add_session_config_entry("session.disable_prepacking", "0")
    return options


def _read_metadata(path: Path) -> ModelMetadata:
    if not path.is_file():
        raise CheckpointError(
            f"there is no {MODEL_FILE}", where=path.parent, fix="Make one with `gptoss-onnx export CHECKPOINT OUTPUT`."
        )
    try:
        model = onnx.load_model(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError is a different class in each of its backends
        raise CheckpointError(f"this is no ONNX model ({error})", where=path) from error
    return ModelMetadata.from_properties({p.key: p.value for p in model.metadata_props}, where=path)


def _check_weight_files(folder: Path, metadata: ModelMetadata) -> None:
    problems = []
    for name, mark in metadata.weight_files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
            continue
        found = WeightFileMark.of(path)
        if found.bytes != mark.bytes:
            problems.append(f"{name} has {found.bytes} bytes instead of {mark.bytes}")
        elif found != mark:
            problems.append(f"{name} is not the file that was exported: its header differs")
    if problems:
        raise CheckpointError(
            "; ".join(problems),
            where=folder / MODEL_FILE,
            fix="The weight files belong beside the model: move the folder as a whole, or export again.",
        )
