"""From a config to what a run is made of: model, parameters, optimizer, step.

The commands differ in two points only: where the weights come from, and which of them are trained.
"""

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import optax
from flax import nnx
from gptoss_model import GptOss, MeshRules, add_lora, load_model, make_mesh
from gptoss_weights import (
    GPT_OSS_20B,
    GPT_OSS_120B,
    Checkpoint,
    GptOssConfig,
    MissingDependencyError,
    open_checkpoint,
    tensor_specs,
)

from gptoss_train.config import TrainConfig
from gptoss_train.data import DataConfig
from gptoss_train.errors import ConfigError
from gptoss_train.initial import initial_checkpoint
from gptoss_train.optimizer import make_optimizer, make_schedule, treats_numbers_alone
from gptoss_train.parameters import (
    Parameters,
    SplitModel,
    is_expert_matrix,
    split_model,
    trained_in_full,
    trained_with_lora,
)
from gptoss_train.quantization import rounded_once
from gptoss_train.rows_on_mesh import check_rows, row_share
from gptoss_train.state import TrainState, init_state
from gptoss_train.step import Step, make_step

if TYPE_CHECKING:
    from gptoss_weights.text import Tokenizer

    from gptoss_train.data.dataset import Dataset

__all__ = [
    "PUBLISHED",
    "Method",
    "Run",
    "add_updates",
    "check_method",
    "geometry_of",
    "load_run_model",
    "open_base",
    "open_data",
    "open_held_out",
    "open_tokenizer",
    "set_up",
    "trained_parameters",
]

type Method = Literal["pretrain", "finetune", "sft", "lora"]

DEMO = "demo"
PUBLISHED: Mapping[str, GptOssConfig] = {"gpt-oss-20b": GPT_OSS_20B, "gpt-oss-120b": GPT_OSS_120B}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What the loop needs.

    Attributes:
        config: What was asked for.
        method: The command.
        base: The checkpoint that the parameters start from.
        mesh: The devices, or None for one.
        split: The structure of the model.
        frozen: What is not trained.
        state: Where the run starts.
        step: The compiled step.
        schedule: The learning rate of each step that is applied.
    """

    config: TrainConfig
    method: Method
    base: Checkpoint
    mesh: jax.sharding.Mesh | None
    split: SplitModel
    frozen: Mapping[str, Any]
    state: TrainState
    step: Step
    schedule: optax.Schedule

    @property
    def geometry(self) -> GptOssConfig:
        """Of the model."""
        return self.base.config

    def model(self, parameters: Parameters | None = None) -> GptOss:
        """The model with its parameters at the start, or with others."""
        return self.split.merge(self.state.parameters if parameters is None else parameters, self.frozen)


def set_up(config: TrainConfig, method: Method, *, base: Checkpoint | None = None, learns: bool = True) -> Run:
    """Loads the model and compiles nothing yet.

    Args:
        config: What is asked for.
        method: The command.
        base: What the parameters start from, if not what the config names.
        learns: Whether there are steps to come; without them no memory goes to an optimizer's moments.

    Raises:
        CheckpointError: the checkpoint, or the config, is not what the command needs.
        MissingDependencyError: this machine lacks a strategy or the devices of the mesh.
    """
    base = open_base(config, method) if base is None else base
    mesh = _mesh(config)
    if learns and mesh is not None:
        check_rows(config, MeshRules(**dict(mesh.shape)))
    if learns:
        row_share(config.batch_size // config.gradient_accumulation, mesh)  # or refused, before anything is loaded
    if not learns or config.evaluation.data is not None:
        row_share(config.batch_size, mesh)
    model = load_run_model(config, method, base, mesh)
    split, parameters, frozen = split_model(
        model, trained_parameters(config, method), weight_dtype=config.run.weight_dtype
    )
    del model  # and with it the arrays that the state copies
    if config.run.quantization_aware:
        frozen = {name: rounded_once(value) if is_expert_matrix(name) else value for name, value in frozen.items()}
    optimizer = make_optimizer(config.optimizer, steps=config.steps) if learns else optax.identity()
    return Run(
        config=config,
        method=method,
        base=base,
        mesh=mesh,
        split=split,
        frozen=frozen,
        state=init_state(parameters, optimizer, split, mesh),
        step=make_step(
            split,
            optimizer,
            config.loss,
            clip_norm=config.optimizer.clip_norm,
            remat=config.run.remat,
            quantization_aware=config.run.quantization_aware,
            audited=method == "lora",
            number_by_number=mesh is None and treats_numbers_alone(config.optimizer),
        ),
        schedule=make_schedule(config.optimizer, steps=config.steps),
    )


def load_run_model(config: TrainConfig, method: Method, base: Checkpoint, mesh: jax.sharding.Mesh | None) -> GptOss:
    """The model as it is trained: experts decoded, or packed under LoRA where the checkpoint packs them.

    Raises:
        ConfigError: it cannot be run as the config says.
    """
    run = config.run
    is_lora = method == "lora"
    check_method(config, method, base.config)
    try:
        model = load_model(
            base,
            dtype=run.dtype,
            # Frozen weights need no more bits than they are computed with.
            param_dtype=run.dtype if is_lora else run.weight_dtype,
            experts="stored" if is_lora else "decoded",
            moe=run.moe,
            attention=run.attention,
            scan_layers=run.scan_layers,
            one_stack=True,
            mesh=mesh,
        )
        if is_lora:
            add_updates(model, config)
    except ValueError as error:
        raise ConfigError(str(error), where="run") from None
    return model


def add_updates(model: GptOss, config: TrainConfig) -> None:
    """Gives a model the low-rank updates of the config, in place.

    Raises:
        ValueError: they cannot be added.
    """
    add_lora(
        model,
        rank=config.lora.rank,
        alpha=config.lora.alpha,
        targets=config.lora.targets,
        seed=config.seed,
        dtype=config.run.weight_dtype,
    )


def trained_parameters(config: TrainConfig, method: Method) -> Callable[[str, nnx.Variable[Any]], bool]:
    """Selects what the command trains."""
    if method == "lora":
        return trained_with_lora(router=config.lora.router, sinks=config.lora.sinks)
    return trained_in_full(config.frozen)


def check_method(config: TrainConfig, method: Method, geometry: GptOssConfig) -> None:
    """Refuses what has no meaning for the command or the geometry, before anything is loaded.

    Raises:
        ConfigError: LoRA is told to train or freeze a matrix, or `frozen` names no parameter.
    """
    if method == "lora" and (config.run.quantization_aware or config.frozen):
        raise ConfigError(
            "LoRA trains no matrix: run.quantization_aware and frozen have no meaning for it", fix="Leave them out."
        )
    names = tensor_specs(geometry)
    idle = [pattern for pattern in config.frozen if not fnmatch.filter(names, pattern)]
    if idle:
        raise ConfigError(
            "no parameter has such a name",
            where="frozen",
            expected="canonical names or patterns of them, such as model.layers.*.self_attn.sinks",
            found=", ".join(idle),
        )
    if all(any(fnmatch.fnmatchcase(name, pattern) for pattern in config.frozen) for name in names):
        raise ConfigError("nothing is left to train", where="frozen", fix="Freeze less.")


def open_base(config: TrainConfig, method: Method) -> Checkpoint:
    """The checkpoint that the parameters start from.

    Raises:
        CheckpointError: there is none, or the config changes a geometry that a checkpoint has.
    """
    if method == "pretrain":
        geometry, side_files = geometry_of(config)
        return initial_checkpoint(geometry, seed=config.seed, side_files=side_files)
    if config.changed_geometry():
        raise ConfigError(
            "the geometry of a checkpoint cannot be changed", where="geometry", fix="Leave it out, or use pretrain."
        )
    if config.model in PUBLISHED and not Path(config.model).exists():
        raise ConfigError(
            f"{config.model} is the name of a published geometry, which pretrain starts from; {method} needs weights",
            where="model",
            expected="the path of a checkpoint",
            fix=f"Get it with `gptoss-weights download openai/{config.model} {config.model}`.",
        )
    return open_checkpoint(_place(config.model))


def geometry_of(config: TrainConfig) -> tuple[GptOssConfig, Mapping[str, Path]]:
    """The geometry that a config names, with what it changes, and the files beside it.

    Raises:
        CheckpointError: there is no such geometry, or it is not possible.
    """
    side_files: Mapping[str, Path] = {}
    place = Path(config.model)
    if config.model in PUBLISHED and not place.exists():
        geometry = PUBLISHED[config.model]
    elif place.suffix == ".json":
        geometry = GptOssConfig.read(place)
    else:
        checkpoint = open_checkpoint(_place(config.model))
        geometry, side_files = checkpoint.config, checkpoint.side_files
    changed = config.changed_geometry()
    if changed:
        geometry = GptOssConfig(**{**geometry.numbers(), **changed})  # type: ignore[arg-type]
    return geometry, side_files


def _place(model: str) -> Path | str:
    """Where a checkpoint is; `demo` is the one that comes with gptoss-weights."""
    if model == DEMO and not Path(model).exists():
        from gptoss_weights.demo import DEMO_CHECKPOINT_PATH

        return DEMO_CHECKPOINT_PATH
    return model


def open_tokenizer(config: TrainConfig, base: Checkpoint) -> "Tokenizer | None":
    """The tokenizer by path, or the checkpoint's; None where nothing is text.

    Raises:
        CheckpointError: there is none.
        MissingDependencyError: the extra for text is missing.
    """
    from gptoss_weights.text import load_tokenizer

    if config.data.source == "synthetic" and config.tokenizer is None:
        return None
    return load_tokenizer(base if config.tokenizer is None else Path(config.tokenizer))


def _mesh(config: TrainConfig) -> jax.sharding.Mesh | None:
    if config.run.mesh is None:
        if jax.process_count() > 1:
            raise ConfigError("several processes need a mesh", where="run.mesh", expected="such as data=-1")
        return None
    try:
        rules = MeshRules.parse(config.run.mesh)
    except ValueError as error:
        raise ConfigError(str(error), where="run.mesh") from None
    try:
        return make_mesh(rules)
    except ValueError as error:
        raise MissingDependencyError(str(error)) from None


def open_data(run: Run, config: DataConfig) -> "Dataset":
    """This process's share of the data that are learnt from.

    Raises:
        CheckpointError: the data are not what they should be.
        ConfigError: the rows of a step cannot be shared, or a number is out of its range.
    """
    return _open_share(run, config, rows=run.config.batch_size // run.config.gradient_accumulation)


def open_held_out(run: Run, config: DataConfig) -> "Dataset":
    """This process's share of data to evaluate on, gone through once; all rows of a batch are on the mesh at a time.

    Raises: as `open_data`.
    """
    return _open_share(run, config.for_evaluation(), rows=run.config.batch_size)


def _open_share(run: Run, config: DataConfig, *, rows: int) -> "Dataset":
    from gptoss_train.data import open_dataset

    share = row_share(rows, run.mesh)
    try:
        return open_dataset(
            config,
            vocabulary_size=run.geometry.vocab_size,
            tokenizer=open_tokenizer(run.config, run.base),
            batch_size=run.config.batch_size,
            sequence_length=run.config.sequence_length,
            seed=run.config.seed,
            shard_index=share.index,
            shard_count=share.count,
        )
    except ValueError as error:
        raise ConfigError(str(error), where="data") from None
