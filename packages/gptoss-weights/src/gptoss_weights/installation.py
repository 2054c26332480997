"""What is installed of what a package needs, always or for an optional feature, and what machine this is."""

import dataclasses
import importlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = [
    "Dependency",
    "Feature",
    "Installation",
    "free_memory_bytes",
    "inspect_installation",
    "install_command",
]

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[^]]*\])?\s*(>=(?P<least>[\w.]+))?[^;]*(;(?P<marker>.*))?")
_EXTRA = "extra =="
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
class Installation:
    """One package, what it needs, and where it runs; the diagnosis of each package adds to it.

    Attributes:
        version: Of the package.
        python: Version of Python.
        machine: Operating system and processor.
        dependencies: What is always needed.
        features: What is optional.
    """

    version: str
    python: str
    machine: str
    dependencies: Sequence[Dependency]
    features: Sequence[Feature]

    @property
    def problems(self) -> list[str]:
        """What keeps the package itself from working, features aside."""
        return [found.problem for found in self.dependencies if found.problem]


def inspect_installation(package: str, features: Mapping[str, tuple[str, str]]) -> Installation:
    """Holds what is installed against what an installed package says that it needs.

    Args:
        package: Name of the distribution.
        features: Extra of the package → the module that it brings, and what that is for.
    """
    always, optional = _requirements(package)
    return Installation(
        version=importlib.metadata.version(package),
        python=platform.python_version(),
        machine=_machine(),
        dependencies=[_dependency(requirement) for requirement in always],
        features=[_feature(package, name, *about, optional.get(about[0])) for name, about in features.items()],
    )


def install_command(package: str, extras: str) -> str:
    """The command that installs extras of a package, given with commas between them."""
    return f"pip install '{package}[{extras}]'"


def free_memory_bytes() -> int | None:
    """Memory that programs can still have; None where the system does not say."""
    if not _MEMINFO.exists():
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", _MEMINFO.read_text(), re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"


def _requirements(package: str) -> tuple[list[re.Match[str]], dict[str, str]]:
    """What an installed package always needs, and optional distribution → its oldest version that will do."""
    always, optional = [], {}
    for line in importlib.metadata.requires(package) or []:
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


def _feature(package: str, name: str, module: str, purpose: str, least: str | None) -> Feature:
    version = _version(module)
    return Feature(
        name=name,
        purpose=purpose,
        module=module,
        version=version,
        problem=_problem(module, version, least),
        install=install_command(package, name),
    )


def _problem(distribution: str, version: str | None, least: str | None) -> str | None:
    if version is None:
        return f"{distribution} is not installed"
    if least is not None and _numbers(version) < _numbers(least):
        return f"{distribution} {version} is older than {least}"
    return _import_problem(_IMPORT_NAMES.get(distribution, distribution.replace("-", "_")))


# Where that is not the name of the distribution with underscores.
_IMPORT_NAMES = {"orbax-checkpoint": "orbax.checkpoint", "pyyaml": "yaml"}


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
