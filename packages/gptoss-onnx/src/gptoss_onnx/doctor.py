"""diagnose: what is installed, which ONNX Runtime that is, and which profiles it can run, or why not."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gptoss_weights.installation import Installation, free_memory_bytes, inspect_installation

__all__ = ["FEATURES", "Diagnosis", "ProfileReport", "diagnose"]

PACKAGE = "gptoss-onnx"
FEATURES: Mapping[str, tuple[str, str]] = {"text": ("tokenizers", "turn text into tokens and back")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileReport:
    """A profile of exports, and why this machine cannot run it; None if it can."""

    name: str
    problem: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis(Installation):
    """What there is; the rest as in `Installation`.

    Attributes:
        providers: What ONNX Runtime computes on; empty if it cannot be imported.
        profiles: Which exports run here.
        free_memory_bytes: Memory that programs can still have; None where the system does not say.
    """

    providers: Sequence[str]
    profiles: Sequence[ProfileReport]
    free_memory_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON document."""
        return {"ok": not self.problems, **dataclasses.asdict(self), "problems": self.problems}


def diagnose() -> Diagnosis:
    """Looks at this environment and this machine."""
    installation = inspect_installation(PACKAGE, FEATURES)
    providers, profiles = [], []
    if not any(found.name == "onnxruntime" and found.problem for found in installation.dependencies):
        import onnxruntime as ort

        from gptoss_onnx.session import LEAST_RUNTIME, PROVIDERS

        providers = ort.get_available_providers()
        version = tuple(int(number) for number in re.findall(r"\d+", ort.__version__)[:2])
        for name, least in LEAST_RUNTIME.items():
            problem = None
            if version < least:
                problem = f"it needs ONNX Runtime {'.'.join(map(str, least))} or newer, and this is {ort.__version__}"
            elif PROVIDERS[name] not in providers:
                problem = f"this ONNX Runtime has no {PROVIDERS[name]}"
            profiles.append(ProfileReport(name=name, problem=problem))
    return Diagnosis(
        **vars(installation), providers=providers, profiles=profiles, free_memory_bytes=free_memory_bytes()
    )
