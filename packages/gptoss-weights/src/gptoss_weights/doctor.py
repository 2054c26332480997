"""diagnose: what is installed, what each optional feature still needs, and what fits on this machine."""

import dataclasses
import importlib
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptoss_weights.config import GPT_OSS_20B, GPT_OSS_120B
from gptoss_weights.errors import MissingDependencyError
from gptoss_weights.formats.layouts import OPENAI
from gptoss_weights.schema import count_parameters

__all__ = ["FEATURES", "Dependency", "Diagnosis", "Feature", "diagnose", "require_features"]

PACKAGE = "gptoss-weights"
FEATURES: Mapping[str, tuple[str, str]] = {  # extra of the package → the module that it brings, what that is for
    "orbax": ("tensorstore", "read and write MaxText's Orbax trees"),
    "text": ("tokenizers", "turn text into tokens and back"),
}
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[^]]*\])?\s*(>=(?P<least>[\w.]+))?[^;]*(;(?P<marker>.*))?")
_EXTRA = "extra =="
_BF16_BYTES = 2
_MEMINFO = Path("/proc/meminfo")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dependency:
    """A distribution that the package always needs: its version, the oldest that will do, what is wrong with it."""

    name: str
    version: str | None
    least: str | None
    problem: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feature:
    """An optional feature.

    Attributes:
        name: The extra.
        purpose: What it is for.
        module: What has to be importable.
        version: Of that, if it is there.
        problem: Why it cannot be used; None if it can.
        install: The command that installs it.
    """

    name: str
    purpose: str
    module: str
    version: str | None
    problem: str | None
    install: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What there is.

    Attributes:
        version: Of the package.
        python: Version of Python.
        machine: Operating system and processor.
        dependencies: What is always needed.
        features: What is optional.
        folder: Where free disk space was looked up.
        free_disk_bytes: Free bytes there.
        free_memory_bytes: Memory that programs can still have; None where the system does not say.
        checkpoint_bytes: Published model, and form of its weights → bytes that it takes on disk.
    """

    version: str
    python: str
    machine: str
    dependencies: Sequence[Dependency]
    features: Sequence[Feature]
    folder: Path
    free_disk_bytes: int
    free_memory_bytes: int | None
    checkpoint_bytes: Mapping[str, int]

    @property
    def problems(self) -> list[str]:
        """What keeps the package itself from working, features aside."""
        return [found.problem for found in self.dependencies if found.problem]

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
    always, optional = _requirements()
    return Diagnosis(
        version=importlib.metadata.version(PACKAGE),
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        dependencies=[_dependency(requirement) for requirement in always],
        features=[_feature(name, *about, optional.get(about[0])) for name, about in FEATURES.items()],
        folder=place,
        free_disk_bytes=shutil.disk_usage(place).free,
        free_memory_bytes=_free_memory(),
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
        raise MissingDependencyError(what, fix=f"Install with: {_install_command(extras)}.")


def _requirements() -> tuple[list[re.Match[str]], dict[str, str]]:
    """What the installed package always needs, and optional distribution → its oldest version that will do."""
    always, optional = [], {}
    for line in importlib.metadata.requires(PACKAGE) or []:
        found = _REQUIREMENT.match(line)
        assert found is not None, line
        if _EXTRA not in (found["marker"] or ""):
            always.append(found)
        elif found["least"]:
            optional[found["name"]] = found["least"]
    return always, optional


def _dependency(requirement: re.Match[str]) -> Dependency:
    name, least = requirement["name"], requirement["least"]
    version = _version(name)
    problem = _problem(name, version, least)
    if version is None and requirement["marker"] is not None:
        problem = None  # a marker leaves it out on some machines
    elif problem is not None and version is not None:
        problem += f"; install another with: pip install '{name}{f'>={least}' if least else ''}'"
    elif problem is not None:
        problem += f"; install it with: pip install '{name}'"
    return Dependency(name=name, version=version, least=least, problem=problem)


def _feature(name: str, module: str, purpose: str, least: str | None) -> Feature:
    version = _version(module)
    return Feature(
        name=name,
        purpose=purpose,
        module=module,
        version=version,
        problem=_problem(module, version, least),
        install=_install_command(name),
    )


def _problem(distribution: str, version: str | None, least: str | None) -> str | None:
    if version is None:
        return f"{distribution} is not installed"
    if least is not None and _numbers(version) < _numbers(least):
        return f"{distribution} {version} is older than {least}"
    return _import_problem(distribution.replace("-", "_"))


def _install_command(extras: str) -> str:
    return f"pip install '{PACKAGE}[{extras}]'"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _import_problem(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - a broken build may raise anything, and this is to say so
        return f"{module} is installed, but cannot be imported ({type(error).__name__}: {error})"
    return None


def _numbers(version: str) -> list[int]:
    """The leading numbers of a version, without a pre-release or local part."""
    return [int(part) for part in re.match(r"\d+(\.\d+)*", version)[0].split(".")]  # type: ignore[index]


def _free_memory() -> int | None:
    if not _MEMINFO.exists():
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", _MEMINFO.read_text(), re.MULTILINE)
    return None if found is None else int(found[1]) * 1024
