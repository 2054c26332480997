"""diagnose: what is installed, which devices JAX has, and which optional features can be used."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from gptoss_weights.installation import Installation, free_memory_bytes, inspect_installation

__all__ = ["FEATURES", "Diagnosis", "diagnose"]

PACKAGE = "gptoss-train"
FEATURES: Mapping[str, tuple[str, str]] = {
    "datasets": ("datasets", "read datasets of Hugging Face"),
    "gcs": ("gcsfs", "keep checkpoints at gs:// URLs"),
    "tensorboard": ("tensorboardX", "write metrics for TensorBoard"),
    "wandb": ("wandb", "send metrics to Weights & Biases"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis(Installation):
    """What there is; the rest as in `Installation`.

    Attributes:
        devices: What JAX computes on; empty if it cannot start.
        device_problem: Why it cannot, or None.
        free_memory_bytes: Memory of the host that programs can still have; None where the system does not say.
    """

    devices: Sequence[str]
    device_problem: str | None
    free_memory_bytes: int | None

    @property
    def problems(self) -> list[str]:
        """What keeps the package from working, features aside."""
        return super().problems + ([] if self.device_problem is None else [self.device_problem])

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON document."""
        return {"ok": not self.problems, **dataclasses.asdict(self), "problems": self.problems}


def diagnose() -> Diagnosis:
    """Looks at this environment and this machine."""
    devices, problem = _devices()
    return Diagnosis(
        **vars(inspect_installation(PACKAGE, FEATURES)),
        devices=devices,
        device_problem=problem,
        free_memory_bytes=free_memory_bytes(),
    )


def _devices() -> tuple[list[str], str | None]:
    try:
        import jax

        return [f"{device.platform}: {device.device_kind} {device.id}" for device in jax.devices()], None
    except Exception as error:  # noqa: BLE001 - a broken driver may raise anything, and this is to say so
        words = " ".join(str(error).split())
        return [], f"JAX cannot start ({type(error).__name__}: {words}); JAX_PLATFORMS=cpu keeps it to the CPU"
