"""Opening an exported folder in ONNX Runtime: its files are checked first, its options are all explicit.

ONNX Runtime maps weight files instead of reading them, so a file that is missing, cut short or
replaced shows late, as an opaque error or as wrong numbers. The metadata knows what each file was.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import onnx
import onnxruntime as ort
from gptoss_weights import CheckpointError, MissingDependencyError

from gptoss_onnx.errors import OptionError
from gptoss_onnx.metadata import MODEL_FILE, ModelMetadata, WeightFileMark
from gptoss_onnx.recipe import Profile, Recipe

__all__ = [
    "LEAST_RUNTIME",
    "LEAST_RUNTIME_FOR_LINKS",
    "Mode",
    "OpenedModel",
    "open_session",
    "read_metadata",
    "weight_file_problems",
]

type Mode = Literal["exact", "turbo"]

PROVIDERS: Mapping[Profile, str] = {
    "portable": "CPUExecutionProvider",
    "fast": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}
# `fast` needs GroupQueryAttention with sinks and a cache of the window's size, and QMoE with blocks.
LEAST_RUNTIME: Mapping[Profile, tuple[int, int]] = {"portable": (1, 20), "fast": (1, 29), "cuda": (1, 29)}
LEAST_RUNTIME_FOR_LINKS = (1, 21)  # the oldest that looks for weights in a folder that it is told
LINKED_FOLDER = "session.model_external_initializers_file_folder_path"
# One operator for an RMSNorm saves a twentieth of a step, but sums its squares one after the other: for turbo only.
NORM_FUSIONS = ("SimplifiedLayerNormFusion", "SkipLayerNormFusion")
# Values of an expert's first matrix. With fewer, rounding activations saves a quarter of a step at most.
SMALLEST_ROUNDED_MATRIX = 1 << 14
_LOG_ERRORS_ONLY = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A session that is ready to run, and what the model says about itself."""

    session: ort.InferenceSession
    metadata: ModelMetadata


def open_session(folder: Path, *, threads: int | None, mode: Mode = "exact") -> OpenedModel:
    """Opens `model.onnx` in a folder that `export_onnx` made.

    Args:
        folder: The folder.
        threads: How many ONNX Runtime uses; None for one a core.
        mode: `exact` in f32, or `turbo` with activations rounded to int8 where the operators can, and where that
            gains time: with small experts and unrounded dense matrices it is `exact`.

    Raises:
        CheckpointError: there is no such model, or a weight file is missing or not the one of the export.
        OptionError: the model does not have that mode.
        MissingDependencyError: this ONNX Runtime cannot run the model.
    """
    path = folder / MODEL_FILE
    metadata = read_metadata(path)
    _require_whole(metadata.recipe, path)
    _require_mode(metadata.recipe, mode)
    _require_runtime(metadata, path)
    _check_weight_files(folder, metadata)
    if threads is not None and threads < 1:
        raise OptionError(f"threads is at least 1, or None for one a core, not {threads}")
    is_rounded = mode == "turbo" and _gains_by_rounding(metadata)
    is_prepacked = is_rounded or not metadata.recipe.rounds_when_prepacked
    options = session_options(threads=threads, is_prepacked=is_prepacked)
    model: Path | bytes = path
    if metadata.linked_folder is not None:
        options.add_session_config_entry(LINKED_FOLDER, str(metadata.linked_folder))
        model = path.read_bytes()
    try:
        session = ort.InferenceSession(
            model,
            options,
            providers=[PROVIDERS[metadata.recipe.profile]],
            disabled_optimizers=() if is_rounded else NORM_FUSIONS,
        )
    except Exception as error:  # ONNX Runtime's own exceptions share no base but this
        raise CheckpointError(
            f"ONNX Runtime {ort.__version__} cannot open the model ({' '.join(str(error).split())})", where=path
        ) from error
    return OpenedModel(session=session, metadata=metadata)


def session_options(*, threads: int | None, is_prepacked: bool) -> ort.SessionOptions:
    """Every option on which results, memory or speed depend, whatever the defaults of a release are.

    Prepacking copies matrices into the layout of a kernel. QMoE and MatMulNBits then have kernels that
    round activations to int8; without it they decode and multiply in f32, straight from the mapped file.

    Folding stays on: in the portable profile the dense matrices are bf16 under a Cast, and folding keeps them
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
    options.add_session_config_entry("session.disable_prepacking", "0" if is_prepacked else "1")
    return options


def _gains_by_rounding(metadata: ModelMetadata) -> bool:
    """Whether kernels that round activations are worth what they lose; rounded matrices have no others."""
    config = metadata.config
    is_large = 2 * config.intermediate_size * config.hidden_size >= SMALLEST_ROUNDED_MATRIX
    return is_large or not metadata.recipe.is_exact


def _require_whole(recipe: Recipe, path: Path) -> None:
    if recipe.component is not None:
        raise CheckpointError(
            f"this is one part of a model, {recipe.component} of layer {recipe.layer}, and no model",
            where=path,
            fix="Run it with ONNX Runtime itself, or export without --component.",
        )


def _require_mode(recipe: Recipe, mode: Mode) -> None:
    if mode not in get_args(Mode.__value__):
        raise OptionError(f"no mode is called {mode}; there are {', '.join(get_args(Mode.__value__))}")
    if mode == "turbo" and not recipe.has_turbo:
        raise OptionError(
            f"mode turbo needs an export with profile fast, and this one is {recipe.profile}; "
            "run it in mode exact, or export again with `gptoss-onnx export CHECKPOINT OUTPUT --profile fast`"
        )
    if mode == "exact" and not recipe.is_exact:
        raise OptionError(
            f"the dense matrices of this export are rounded to {recipe.dense}, so there is no mode exact; "
            "run it in mode turbo, or export again with --dense float32"
        )


def _require_runtime(metadata: ModelMetadata, path: Path) -> None:
    recipe, least = metadata.recipe, LEAST_RUNTIME[metadata.recipe.profile]
    kind = f"of profile {recipe.profile}"
    if metadata.linked_folder is not None and least < LEAST_RUNTIME_FOR_LINKS:
        least, kind = LEAST_RUNTIME_FOR_LINKS, "with linked weights"
    found = tuple(int(number) for number in re.findall(r"\d+", ort.__version__)[:2])
    if found < least:
        wanted = ".".join(map(str, least))
        raise MissingDependencyError(
            f"this ONNX Runtime cannot run an export {kind}",
            where=path,
            expected=f"{wanted} or newer",
            found=ort.__version__,
            fix=f"Install it with: pip install 'onnxruntime>={wanted}'.",
        )
    provider = PROVIDERS[recipe.profile]
    if provider not in ort.get_available_providers():
        raise MissingDependencyError(
            f"this ONNX Runtime has no {provider}, which an export of profile {recipe.profile} needs",
            where=path,
            found=", ".join(ort.get_available_providers()),
            fix="Install onnxruntime-gpu in place of onnxruntime, or export with profile fast.",
        )
    if recipe.profile == "cuda":
        raise OptionError(
            "an export of profile cuda is for programs of your own: this package keeps its caches in the memory of the "
            "CPU, and has never run one; export with profile fast or portable to run it here"
        )


def read_metadata(path: Path) -> ModelMetadata:
    """What the model at `path` says about itself.

    Raises:
        CheckpointError: there is none, or it is no export of this package.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no {MODEL_FILE}", where=path.parent, fix="Make one with `gptoss-onnx export CHECKPOINT OUTPUT`."
        )
    try:
        model = onnx.load_model(path, load_external_data=False)
    except OSError:
        raise
    except Exception as error:  # protobuf's DecodeError is a different class in each of its backends
        raise CheckpointError(f"this is no ONNX model ({error})", where=path) from error
    return ModelMetadata.from_properties({p.key: p.value for p in model.metadata_props}, where=path)


def weight_file_problems(folder: Path, metadata: ModelMetadata) -> list[str]:
    """What is wrong with the weight files of a model, each in a few words; nothing if they are those of the export."""
    problems = []
    place = metadata.linked_folder or folder
    for name, mark in metadata.weight_files.items():
        path = place / name
        if not path.is_file():
            problems.append(f"{name} is missing")
            continue
        found = WeightFileMark.of(path)
        if found.bytes != mark.bytes:
            problems.append(f"{name} has {found.bytes} bytes instead of {mark.bytes}")
        elif found != mark:
            problems.append(f"{name} is not the file that was exported: its header differs")
    return problems


def _check_weight_files(folder: Path, metadata: ModelMetadata) -> None:
    problems = weight_file_problems(folder, metadata)
    if problems:
        fix = "The weight files belong beside the model: move the folder as a whole, or export again."
        if metadata.linked_folder is not None:
            fix = f"The weights were linked to in {metadata.linked_folder}: put them there again, or export again."
        raise CheckpointError("; ".join(problems), where=folder / MODEL_FILE, fix=fix)
