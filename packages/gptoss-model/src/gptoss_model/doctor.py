"""diagnose: what is installed, which devices JAX has, and which strategies can run on them, or why not."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptoss_weights.installation import (
    Installation,
    free_memory_bytes,
    inspect_installation,
)

__all__ = ["FEATURES", "Device", "Diagnosis", "StrategyReport", "diagnose"]

PACKAGE = "gptoss-model"
FEATURES: Mapping[str, tuple[str, str]] = {"text": ("tokenizers", "turn text into tokens and back")}
PREFILL_TOKENS = 512  # for what `auto` chooses: a piece of a prompt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Device:
    """One of the devices that JAX computes on; `memory_bytes` is None where JAX does not say."""

    name: str
    platform: str
    memory_bytes: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StrategyReport:
    """A strategy: what it is for if this machine can run it, and why not otherwise."""

    kind: str
    name: str
    available: bool
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis(Installation):
    """What there is; the rest as in `Installation`.

    Attributes:
        devices: What JAX computes on; empty if it cannot start.
        device_problem: Why JAX cannot start, or None.
        strategies: For the experts (`moe`) and for attention.
        choices: Step → what `auto` comes to there, and why.
        compilation_cache: Where the commands keep compiled programs; None if nowhere.
        compilation_cache_bytes: How much lies there.
        free_memory_bytes: Memory of the host that programs can still have; None where the system does not say.
    """

    devices: Sequence[Device]
    device_problem: str | None
    strategies: Sequence[StrategyReport]
    choices: Mapping[str, str]
    compilation_cache: Path | None
    compilation_cache_bytes: int
    free_memory_bytes: int | None

    @property
    def problems(self) -> list[str]:
        """What keeps the package from working, features and strategies aside."""
        return super().problems + ([] if self.device_problem is None else [self.device_problem])

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON document."""
        document = dataclasses.asdict(self)
        folder = None if self.compilation_cache is None else str(self.compilation_cache)
        return {"ok": not self.problems, **document, "compilation_cache": folder, "problems": self.problems}


def diagnose(*, compilation_cache: Path | None) -> Diagnosis:
    """Looks at this environment and this machine.

    Args:
        compilation_cache: Where compiled programs are kept.
    """
    devices, problem = _devices()
    return Diagnosis(
        **vars(inspect_installation(PACKAGE, FEATURES)),
        devices=devices,
        device_problem=problem,
        strategies=[] if problem else _strategies(),
        choices={} if problem else _choices(),
        compilation_cache=compilation_cache,
        compilation_cache_bytes=_folder_bytes(compilation_cache),
        free_memory_bytes=free_memory_bytes(),
    )


def _devices() -> tuple[list[Device], str | None]:
    try:
        import jax

        return [
            Device(
                name=f"{device.device_kind} {device.id}",
                platform=device.platform,
                memory_bytes=(device.memory_stats() or {}).get("bytes_limit"),
            )
            for device in jax.devices()
        ], None
    except Exception as error:  # noqa: BLE001 - a broken driver may raise anything, and this is to say so
        words = " ".join(str(error).split())
        return [], f"JAX cannot start ({type(error).__name__}: {words}); JAX_PLATFORMS=cpu keeps it to the CPU"


def _strategies() -> list[StrategyReport]:
    from gptoss_model.ops.attention import list_attention_strategies
    from gptoss_model.ops.moe import list_moe_strategies

    kinds = {"moe": list_moe_strategies(), "attention": list_attention_strategies()}
    return [
        StrategyReport(kind=kind, name=found.name, available=found.available, reason=found.reason)
        for kind, strategies in kinds.items()
        for found in strategies
    ]


def _choices() -> dict[str, str]:
    from gptoss_model.ops.attention import choose_attention_strategy
    from gptoss_model.ops.moe import choose_moe_strategy

    choices = {}
    for step, tokens in (("decoding", 1), ("prefill", PREFILL_TOKENS)):
        for form, is_packed in (("packed", True), ("decoded", False)):
            choice = choose_moe_strategy("auto", tokens=tokens, is_packed=is_packed)
            choices[f"moe, {step}, {form} experts"] = f"{choice.name}: {choice.reason}"
        attention = choose_attention_strategy("auto", queries=tokens, keys=PREFILL_TOKENS)
        choices[f"attention, {step}"] = f"{attention.name}: {attention.reason}"
    return choices


def _folder_bytes(folder: Path | None) -> int:
    if folder is None or not folder.is_dir():
        return 0
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
