"""diagnose: what is installed, what each optional feature still needs, and what fits on this machine."""

import dataclasses
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gptoss_weights.config import GPT_OSS_20B, GPT_OSS_120B
from gptoss_weights.errors import MissingDependencyError
from gptoss_weights.formats.layouts import OPENAI
from gptoss_weights.installation import (
    Installation,
    free_memory_bytes,
    inspect_installation,
    install_command,
)
from gptoss_weights.schema import count_parameters

__all__ = ["FEATURES", "Diagnosis", "diagnose", "require_features"]

PACKAGE = "gptoss-weights"
FEATURES: Mapping[str, tuple[str, str]] = {  # extra of the package → the module that it brings, what that is for
    "orbax": ("tensorstore", "read and write MaxText's Orbax trees"),
    "text": ("tokenizers", "turn text into tokens and back"),
}
_BF16_BYTES = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis(Installation):
    """What there is; the rest as in `Installation`.

    Attributes:
        folder: Where free disk space was looked up.
        free_disk_bytes: Free bytes there.
        free_memory_bytes: Memory that programs can still have; None where the system does not say.
        checkpoint_bytes: Published model, and form of its weights → bytes that it takes on disk.
    """

    folder: Path
    free_disk_bytes: int
    free_memory_bytes: int | None
    checkpoint_bytes: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON document."""
        document = dataclasses.asdict(self)
        return {"ok": not self.problems, **document, "folder": str(self.folder), "problems": self.problems}


def diagnose(folder: Path | str = ".") -> Diagnosis:
    """Looks at this environment and this machine.

    Args:
        folder: Where checkpoints will be written.
    """
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    return Diagnosis(
        **vars(inspect_installation(PACKAGE, FEATURES)),
        folder=place,
        free_disk_bytes=shutil.disk_usage(place).free,
        free_memory_bytes=free_memory_bytes(),
        checkpoint_bytes={
            f"{name}, {form}": nbytes
            for name, config in (("gpt-oss-20b", GPT_OSS_20B), ("gpt-oss-120b", GPT_OSS_120B))
            for form, nbytes in (
                ("packed as MXFP4", sum(tensor.nbytes for tensor in OPENAI.tensors(config))),
                ("as bfloat16", count_parameters(config) * _BF16_BYTES),
            )
        },
    )


def require_features(diagnosis: Diagnosis, names: Collection[str]) -> None:
    """Holds an environment to have features.

    Raises:
        MissingDependencyError: some of them are missing; all at once.
        ValueError: there is no such feature.
    """
    by_name = {feature.name: feature for feature in diagnosis.features}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ValueError(f"no feature is called {', '.join(unknown)}; there are {', '.join(by_name)}")
    missing = [by_name[name] for name in dict.fromkeys(names) if by_name[name].problem]
    if missing:
        what = "; ".join(f"the feature {feature.name} cannot be used: {feature.problem}" for feature in missing)
        extras = ",".join(feature.name for feature in missing)
        raise MissingDependencyError(what, fix=f"Install with: {install_command(PACKAGE, extras)}.")
