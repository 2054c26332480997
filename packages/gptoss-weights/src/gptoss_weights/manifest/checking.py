"""Holds an artefact against a manifest: files first, then the tensors in those that have changed."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.errors import CheckpointError
from gptoss_weights.file_hashing import hash_ranges
from gptoss_weights.manifest.artefact import Artefact
from gptoss_weights.manifest.document import Manifest, TensorEntry
from gptoss_weights.manifest.hashing import hash_tensor
from gptoss_weights.manifest.writing import tensor_dtype

__all__ = [
    "FileDamage",
    "TensorDamage",
    "damaged_files",
    "damaged_tensors",
    "differing_config_numbers",
    "unlisted_files",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileDamage:
    """A file that is not what the manifest says: its path in the artefact, where it stands, what is wrong."""

    file: str
    path: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorDamage:
    """A tensor that is not what the manifest says."""

    tensor: str
    problem: str

    def __str__(self) -> str:
        return f"{self.tensor}: {self.problem}"


def damaged_files(
    manifest: Manifest, artefact: Artefact, *, on_bytes: Callable[[int], None] | None = None
) -> Iterator[FileDamage]:
    """Reads every file that the manifest lists and yields those that are missing or changed.

    Args:
        manifest: What the artefact was.
        artefact: Where it is now.
        on_bytes: Called with the number of bytes of each piece read, from other threads, but never from two at a time.
    """
    problems = {file: _missing_or_resized(artefact.path(file), entry.nbytes) for file, entry in manifest.files.items()}
    whole = {file: entry for file, entry in manifest.files.items() if problems[file] is None}
    ranges = [one for file, entry in whole.items() for one in entry.ranges(artefact.path(file))]
    with contextlib.closing(hash_ranges(ranges, on_bytes=on_bytes)) as sums:
        for file, entry in manifest.files.items():
            problem = problems[file]
            if file in whole and [next(sums) for _ in entry.parts] != list(entry.parts.values()):
                problem = "the file has changed since the manifest was written"
            if problem is not None:
                yield FileDamage(file=file, path=artefact.path(file), problem=problem)


def _missing_or_resized(path: Path, nbytes: int) -> str | None:
    if not path.is_file():
        return "the file is missing"
    found = path.stat().st_size
    if found == nbytes:
        return None
    return f"the file is {'truncated' if found < nbytes else 'longer'}, {found} bytes instead of {nbytes}"


def damaged_tensors(
    manifest: Manifest, checkpoint: Checkpoint, *, within: Iterable[str] | None = None
) -> Iterator[TensorDamage]:
    """Reads tensors and yields those whose values are not those of the manifest.

    Args:
        manifest: What the tensors were; that of another layout will do, as far as it stores them alike.
        checkpoint: Where they are now.
        within: Only tensors of which some stands in one of these files of the artefact; by default all.
    """
    files = None if within is None else list(within)
    for name, entry in manifest.tensors.items():
        if files is not None and not any(entry.stands_in(file) for file in files):
            continue
        problem = _tensor_problem(checkpoint, name, entry)
        if problem is not None:
            yield TensorDamage(tensor=name, problem=problem)
    if files is None:
        for name in checkpoint:
            if name not in manifest.tensors:
                yield TensorDamage(tensor=name, problem="the manifest knows no such tensor")


def differing_config_numbers(manifest: Manifest, checkpoint: Checkpoint) -> list[str]:
    """One phrase for each number of the config that is not that of the manifest."""
    found = {name: getattr(checkpoint.config, name) for name in manifest.config if hasattr(checkpoint.config, name)}
    return [
        f"{name} is {found.get(name)} here and {number} in the manifest"
        for name, number in manifest.config.items()
        if found.get(name) != number
    ]


def unlisted_files(manifest: Manifest, artefact: Artefact) -> list[str]:
    """Files that belong to the artefact now, though the manifest does not list them."""
    return [file for file in artefact.files() if file not in manifest.files]


def _tensor_problem(checkpoint: Checkpoint, name: str, entry: TensorEntry) -> str | None:
    spec = checkpoint.specs.get(name)
    if spec is None:
        return "there is no such tensor here"
    if spec.shape != entry.shape:
        return f"its shape is {list(spec.shape)} here and {list(entry.shape)} in the manifest"
    dtype = tensor_dtype(checkpoint, name)
    if dtype != entry.dtype:
        return f"it is {dtype} here and {entry.dtype} in the manifest; compare values with --against"
    try:
        found = hash_tensor(checkpoint, name)
    except CheckpointError as error:
        return f"it cannot be read ({error})"
    changed = [half for half, checksum in entry.checksums.items() if found.get(half) != checksum]
    return f"its {' and '.join(changed)} have changed" if changed else None
