"""What a run is, as a value: the config that every command reads, and its defaults.

Each section is a frozen dataclass whose docstring says what its keys mean; `reading` makes it of YAML
and of `key=value`. Sizes of the model are not here: they belong to the checkpoint, or to `geometry`.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptoss_model.strategy_names import ATTENTION_NAMES, MOE_NAMES

from gptoss_train.data import DataConfig
from gptoss_train.errors import ConfigError
from gptoss_train.reading import read_config

__all__ = [
    "CheckpointConfig",
    "EvaluationConfig",
    "GeometryConfig",
    "LogConfig",
    "LoraConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "TrainConfig",
    "load_config",
    "recipe_names",
]

type Dtype = Literal["bfloat16", "float32"]
type LoraTarget = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"]

RECIPES = Path(__file__).parent / "recipes"


def _require(section: str, **claims: tuple[bool, str]) -> None:
    wrong = [f"{section}{key}: {words}" for key, (holds, words) in claims.items() if not holds]
    if wrong:
        raise ValueError("; ".join(wrong))


@dataclass(frozen=True, kw_only=True)
class GeometryConfig:
    """Numbers of the model that differ from those of `model`; for `pretrain` only. Null leaves one as it is."""

    num_hidden_layers: int | None = None
    num_experts: int | None = None
    experts_per_token: int | None = None
    vocab_size: int | None = None
    hidden_size: int | None = None
    intermediate_size: int | None = None
    swiglu_limit: float | None = None
    head_dim: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    sliding_window: int | None = None
    initial_context_length: int | None = None
    rope_theta: float | None = None
    rope_scaling_factor: float | None = None
    rope_ntk_alpha: float | None = None
    rope_ntk_beta: float | None = None


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """How the model is run.

    Args:
        dtype: Of the activations.
        weight_dtype: Of the parameters that are trained.
        moe: Strategy of the experts; `gptoss-model doctor` lists them.
        attention: Strategy of attention.
        scan_layers: Whether the layers are a compiled loop, so that compiling does not grow with depth; null: wherever
            they can be.
        remat: What the backward pass keeps of a layer instead of computing it again: all that its parts keep (`none`),
            the results of products (`dots`), those of products with parameters (`dots_with_no_batch_dims`), nothing
            (`full`).
        mesh: The devices, such as `data=2,fsdp=4`; null is one device.
        quantization_aware: Whether experts are rounded to MXFP4 in the forward pass, the gradient going straight
            through; what is exported as MXFP4 then is what was trained.
    """

    dtype: Dtype = "float32"
    weight_dtype: Dtype = "float32"
    moe: str = "auto"
    attention: str = "auto"
    scan_layers: bool | None = None
    remat: Literal["none", "dots", "dots_with_no_batch_dims", "full"] = "none"
    mesh: str | None = None
    quantization_aware: bool = False

    def __post_init__(self) -> None:
        _require(
            "run.",
            moe=(self.moe in MOE_NAMES, f"expected one of {', '.join(MOE_NAMES)}, found {self.moe!r}"),
            attention=(
                self.attention in ATTENTION_NAMES,
                f"expected one of {', '.join(ATTENTION_NAMES)}, found {self.attention!r}",
            ),
        )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised: the mean cross-entropy, and what may be added to it.

    Args:
        vocabulary_chunk: Logits that are computed at a time.
        load_balance_weight: Of the load-balance loss, which is `experts_per_token` where all experts do as much.
        z_weight: Of the router's z-loss, the mean square of the log of the sum of the exponentials of its logits.
    """

    vocabulary_chunk: int = 8192
    load_balance_weight: float = 0.0
    z_weight: float = 0.0

    def __post_init__(self) -> None:
        _require(
            "loss.",
            vocabulary_chunk=(self.vocabulary_chunk > 0, f"expected 1 or more, found {self.vocabulary_chunk}"),
            load_balance_weight=(self.load_balance_weight >= 0, "expected 0 or more"),
            z_weight=(self.z_weight >= 0, "expected 0 or more"),
        )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How parameters follow their gradients.

    Args:
        name: An optimizer of optax.
        learning_rate: The highest of the schedule.
        schedule: `constant`; `linear` or `cosine` from the highest down to `final_ratio` of it; `wsd` stays and falls
            linearly over the last `decay_steps`. As in optax and transformers, the rate is there once the last step is
            made; that step itself is one before it.
        warmup_steps: Over which the rate rises linearly from 0.
        decay_steps: Of `wsd`.
        final_ratio: What the rate ends at, as a part of the highest.
        b1: Decay of the mean of gradients.
        b2: Decay of the mean of their squares.
        eps: Added to the root of the latter.
        weight_decay: Per step, times the rate, of matrices: not of norms, biases and sinks.
        momentum: Of `sgd`.
        clip_norm: The norm that all gradients together are cut to; null cuts nothing.
        nonfinite: What becomes of a step whose loss or gradient is no number: it is left out and counted (`skip`), or
            ends the run (`stop`); the parameters stay as they are in any case.
    """

    name: Literal["adamw", "adafactor", "lion", "sgd"] = "adamw"
    learning_rate: float = 1e-4
    schedule: Literal["constant", "linear", "cosine", "wsd"] = "cosine"
    warmup_steps: int = 0
    decay_steps: int = 0
    final_ratio: float = 0.1
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.9
    clip_norm: float | None = 1.0
    nonfinite: Literal["skip", "stop"] = "stop"

    def __post_init__(self) -> None:
        _require(
            "optimizer.",
            learning_rate=(self.learning_rate > 0, f"expected more than 0, found {self.learning_rate}"),
            warmup_steps=(self.warmup_steps >= 0, f"expected 0 or more, found {self.warmup_steps}"),
            decay_steps=(
                (self.decay_steps > 0) == (self.schedule == "wsd"),
                f"schedule 'wsd' needs some and no other has any, found {self.decay_steps} with {self.schedule!r}",
            ),
            clip_norm=(self.clip_norm is None or self.clip_norm > 0, f"expected null or more than 0: {self.clip_norm}"),
            final_ratio=(0 <= self.final_ratio <= 1, f"expected 0 … 1, found {self.final_ratio}"),
            eps=(self.eps > 0, f"expected more than 0, found {self.eps}"),
            b1=(0 <= self.b1 < 1, f"expected 0 or more and less than 1, found {self.b1}"),
            b2=(0 <= self.b2 < 1, f"expected 0 or more and less than 1, found {self.b2}"),
            momentum=(0 <= self.momentum < 1, f"expected 0 or more and less than 1, found {self.momentum}"),
            weight_decay=(self.weight_decay >= 0, f"expected 0 or more, found {self.weight_decay}"),
        )


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank updates, of the command `lora`.

    Args:
        rank: Of the updates.
        alpha: They are alpha / rank · b · a.
        targets: The matrices that have one; the experts' stay packed.
        router: Whether the routers are trained too, as they are.
        sinks: Whether the sinks are.
        audit_steps: After how many steps it is checked that all that should move did, and nothing else.
    """

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[LoraTarget, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj")
    router: bool = False
    sinks: bool = False
    audit_steps: int = 2

    def __post_init__(self) -> None:
        _require(
            "lora.",
            rank=(self.rank > 0, f"expected 1 or more, found {self.rank}"),
            alpha=(self.alpha > 0, f"expected more than 0, found {self.alpha}"),
            targets=(bool(self.targets), "expected at least one"),
            # b starts at zero, so in the first step a has no gradient.
            audit_steps=(self.audit_steps > 1, f"expected 2 or more, found {self.audit_steps}"),
        )


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the run is saved, so that it can go on.

    Args:
        mode: `async` saves while the next steps run, `sync` before them; `off` saves nothing, not even at the end.
        every: Steps between two saves; the last step, and SIGTERM and SIGINT, save too.
        keep_last: How many are kept; null keeps all.
        keep_every: Those of every so many steps are kept for good; null: none.
    """

    mode: Literal["async", "sync", "off"] = "async"
    every: int = 100
    keep_last: int | None = 2
    keep_every: int | None = None

    def __post_init__(self) -> None:
        _require(
            "checkpoint.",
            every=(self.every > 0, f"expected 1 or more, found {self.every}"),
            keep_last=(self.keep_last is None or self.keep_last > 0, f"expected null, or 1 or more: {self.keep_last}"),
            keep_every=(
                self.keep_every is None or (self.keep_every > 0 and self.keep_every % self.every == 0),
                f"expected null or a multiple of every={self.every}, found {self.keep_every}",
            ),
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The loss on data that are held out.

    Args:
        data: Them; null evaluates nothing.
        every: Steps between two evaluations; the last step evaluates too.
        batches: How many batches; null is all there are.
    """

    data: DataConfig | None = None
    every: int = 100
    batches: int | None = None

    def __post_init__(self) -> None:
        _require(
            "evaluation.",
            every=(self.every > 0, f"expected 1 or more, found {self.every}"),
            batches=(self.batches is None or self.batches > 0, f"expected null, or 1 or more: {self.batches}"),
        )


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """Where numbers go besides `metrics.jsonl` and the report.

    Args:
        report: Whether `report.html` is written when the run ends or pauses.
        tensorboard: Whether `tensorboard/` is written; needs the extra `tensorboard`.
        wandb_project: A project of Weights & Biases; null is none; needs the extra `wandb`.
    """

    report: bool = True
    tensorboard: bool = False
    wandb_project: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A run.

    Args:
        model: A checkpoint in any format, or `demo`, which comes with gptoss-weights; for `pretrain`, which makes its
            own weights, also a `config.json`, or `gpt-oss-20b` or `gpt-oss-120b`.
        geometry: Numbers of the model that `pretrain` changes.
        tokenizer: A `tokenizer.json` or its folder; null takes the checkpoint's.
        output: The folder, or `gs://` URL, of all runs.
        run_name: The folder of this one; a run of the same name goes on where it was saved.
        seed: Of the order of the data, and of new parameters.
        steps: How many there are.
        batch_size: Rows in a step, over all devices.
        sequence_length: Tokens in a row.
        gradient_accumulation: Into how many parts a step's rows are divided, one after the other.
        frozen: Patterns of canonical names, such as `model.embed_tokens.*`, of parameters that are not trained.
        data: What is learnt from.
        run: How the model is run.
        loss: What is minimised.
        optimizer: How.
        lora: Of the command `lora`.
        checkpoint: What is saved.
        evaluation: What is held out.
        log: Where numbers go.
    """

    model: str
    geometry: GeometryConfig = GeometryConfig()
    tokenizer: str | None = None
    output: str = "runs"
    run_name: str = "run"
    seed: int = 0
    steps: int = 100
    batch_size: int = 8
    sequence_length: int = 1024
    gradient_accumulation: int = 1
    frozen: tuple[str, ...] = ()
    data: DataConfig = DataConfig()  # noqa: RUF009 - frozen
    run: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    lora: LoraConfig = LoraConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    log: LogConfig = LogConfig()

    def __post_init__(self) -> None:
        _require(
            "",
            output=(bool(self.output), "expected a folder or a URL, found nothing"),
            run_name=(
                bool(self.run_name) and "/" not in self.run_name and self.run_name not in (".", ".."),
                f"expected the name of a folder, found {self.run_name!r}",
            ),
            seed=(self.seed >= 0, f"expected 0 or more, found {self.seed}"),
            steps=(self.steps > 0, f"expected 1 or more, found {self.steps}"),
            batch_size=(self.batch_size > 0, f"expected 1 or more, found {self.batch_size}"),
            sequence_length=(self.sequence_length > 1, f"expected 2 or more, found {self.sequence_length}"),
            gradient_accumulation=(
                self.gradient_accumulation > 0 and self.batch_size % self.gradient_accumulation == 0,
                f"expected a divisor of batch_size={self.batch_size}, found {self.gradient_accumulation}",
            ),
            optimizer=(
                self.optimizer.warmup_steps + self.optimizer.decay_steps <= self.steps,
                f"warmup_steps and decay_steps are more than steps={self.steps}",
            ),
        )

    def changed_geometry(self) -> dict[str, int | float]:
        """The numbers of the model that differ from those of `model`."""
        numbers = dataclasses.asdict(self.geometry)
        return {name: number for name, number in numbers.items() if number is not None}


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads a config, or a recipe by its name.

    Args:
        path: A YAML file, or one of `recipe_names`.
        overrides: `key=value`, such as `optimizer.learning_rate=3e-4`, which count more than the file.

    Raises:
        ConfigError: there is no such file, or it does not say what a config says; all problems at once.
    """
    place = Path(path)
    if not place.is_file() and str(path) in recipe_names():  # a folder of that name may be a run
        place = RECIPES / f"{path}.yaml"
    elif not place.exists():
        raise ConfigError(
            "there is no such config",
            where=path,
            expected=f"a YAML file, or a recipe: {', '.join(recipe_names())}",
        )
    return read_config(TrainConfig, place, overrides)


def recipe_names() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))
