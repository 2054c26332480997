"""verify_artefact: all that can be known about a checkpoint on disk, against its manifest if it has one."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.orbax.location import find_item
from gptoss_weights.manifest.artefact import MANIFEST_NAME, Artefact, find_artefact
from gptoss_weights.manifest.checking import (
    FileDamage,
    TensorDamage,
    damaged_files,
    damaged_tensors,
    differing_config_numbers,
    unlisted_files,
)
from gptoss_weights.manifest.document import Manifest, parse_manifest, read_manifest
from gptoss_weights.opening import open_checkpoint
from gptoss_weights.places import as_place
from gptoss_weights.surroundings import config_problems, index_warnings
from gptoss_weights.verification import Finding, find_corruption

__all__ = ["Progress", "VerificationReport", "verify_artefact"]

type Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""From what is being done, and of how many bytes or tensors, to a context that gives a function to be told of each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerificationReport:
    """What was found.

    Attributes:
        path: What was verified.
        checkpoint: It, if it opens.
        artefact: Where its files are; None behind a URL.
        manifest_path: The manifest that it was held against, if there was one.
        manifest: That manifest.
        is_same_layout: Whether files were held against it, and not only tensors.
        structure: Why it does not open, in a sentence.
        config: Phrases on numbers of the config that are not those of the manifest.
        files: Files that are not as in the manifest.
        tensors: Tensors that are not as in the manifest.
        unlisted: Files that belong to the checkpoint, though the manifest does not list them.
        values: Values that no healthy checkpoint has, and tensors that cannot be read.
        surroundings: Sentences on what beside the weights keeps others from reading them.
        warnings: Sentences on what does no harm to these weights, and yet is not as it should be.
    """

    path: Path | str
    checkpoint: Checkpoint | None
    artefact: Artefact | None
    manifest_path: Path | str | None
    manifest: Manifest | None
    is_same_layout: bool
    structure: str | None
    config: Sequence[str]
    files: Sequence[FileDamage]
    tensors: Sequence[TensorDamage]
    unlisted: Sequence[str]
    values: Sequence[Finding]
    surroundings: Sequence[str]
    warnings: Sequence[str]

    @property
    def problems(self) -> list[str]:
        """One sentence for each thing that is wrong; empty if the checkpoint is sound."""
        located = {name for damage in self.files for name in self._tensors_in(damage)}
        return [
            *([self.structure] if self.structure else []),
            *(f"{self.path}: the config differs: {phrase}" for phrase in self.config),
            *(f"{damage}{self._what_changed(damage)}" for damage in self.files),
            *(f"{self.path}: {damage}" for damage in self.tensors if damage.tensor not in located),
            *(str(finding) for finding in self.values),
            *self.surroundings,
        ]

    @property
    def is_of_another_checkpoint(self) -> bool:
        """Whether the manifest hardly belongs to this checkpoint: another config, or no file of weights is right."""
        if self.manifest is None:
            return False
        weights = {file for entry in self.manifest.tensors.values() for file in entry.files}
        bad = {damage.file for damage in self.files}
        is_all_bad = len(weights) > 1 and self.is_same_layout and weights <= bad
        return bool(self.config) or is_all_bad

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON document."""
        return {
            "checkpoint": str(self.path),
            "ok": not self.problems,
            "format": None if self.checkpoint is None else self.checkpoint.format,
            "tensors_read": 0 if self.checkpoint is None else len(self.checkpoint),
            "manifest": None if self.manifest_path is None else str(self.manifest_path),
            "files_checked": len(self.manifest.files) if self.manifest is not None and self.is_same_layout else 0,
            "damaged_files": [
                {"file": damage.file, "problem": damage.problem, "tensors": self._tensors_in(damage)}
                for damage in self.files
            ],
            "damaged_tensors": [dataclasses.asdict(damage) for damage in self.tensors],
            "unlisted_files": list(self.unlisted),
            "warnings": list(self.warnings),
            "problems": self.problems,
        }

    def _tensors_in(self, damage: FileDamage) -> list[str]:
        """Names of the damaged tensors that a damaged file may hold some of."""
        assert self.manifest is not None
        entries = self.manifest.tensors
        return [found.tensor for found in self.tensors if entries[found.tensor].stands_in(damage.file)]

    def _what_changed(self, damage: FileDamage) -> str:
        assert self.manifest is not None
        inside = set(self._tensors_in(damage))
        if inside:
            return "; in it " + ", ".join(str(found) for found in self.tensors if found.tensor in inside)
        holds_tensors = any(entry.stands_in(damage.file) for entry in self.manifest.tensors.values())
        if self.checkpoint is not None and holds_tensors:
            return "; no tensor has, so it is in what stands around them"
        return ""


def verify_artefact(
    path: Path | str, *, config: Path | None = None, manifest: Path | None = None, progress: Progress | None = None
) -> VerificationReport:
    """Opens a checkpoint, holds its files and tensors against its manifest, and reads all values.

    Args:
        path: What `open_checkpoint` opens; of what is behind a URL, tensors alone are held against its manifest.
        config: The config, if it stands elsewhere.
        manifest: The manifest, if it stands elsewhere. If it is that of another layout, tensors are
            held against it, not files.
        progress: Is told how far it has come.

    Raises:
        CheckpointError: there is nothing at the path, or the manifest itself is damaged.
    """
    progress = progress or _no_progress
    artefact = find_artefact(path) if isinstance(as_place(path), Path) else None
    checkpoint, structure = _open(path, config)
    place, known = _known_manifest(path, artefact, manifest)
    files: list[FileDamage] = []
    tensors: list[TensorDamage] = []
    numbers: list[str] = []
    unlisted: list[str] = []
    is_same_layout = artefact is not None
    if known is not None:
        if manifest is not None and checkpoint is not None:
            is_same_layout = is_same_layout and known.format == checkpoint.format
        if is_same_layout and artefact is not None:
            with progress("hashing", sum(entry.nbytes for entry in known.files.values())) as advance:
                files = list(damaged_files(known, artefact, on_bytes=advance))
            unlisted = [] if checkpoint is None else unlisted_files(known, artefact)
        if checkpoint is not None:
            numbers = differing_config_numbers(known, checkpoint)
            within = [damage.file for damage in files] if is_same_layout else None
            tensors = list(damaged_tensors(known, checkpoint, within=within))
    damaged = {damage.tensor for damage in tensors}
    folder = None if artefact is None else artefact.root
    return VerificationReport(
        path=path,
        checkpoint=checkpoint,
        artefact=artefact,
        manifest_path=place,
        manifest=known,
        is_same_layout=is_same_layout,
        structure=structure,
        config=numbers,
        files=files,
        tensors=tensors,
        unlisted=unlisted,
        values=[] if checkpoint is None else list(_suspect_values(checkpoint, damaged, progress)),
        surroundings=config_problems(checkpoint, folder) if checkpoint and folder and config is None else [],
        warnings=list(index_warnings(checkpoint, folder)) if checkpoint and folder else [],
    )


def _known_manifest(
    path: Path | str, artefact: Artefact | None, given: Path | None
) -> tuple[Path | str | None, Manifest | None]:
    """Where the manifest stands, and it, if there is one."""
    if given is not None:
        return given, read_manifest(given)
    if artefact is not None:
        place = artefact.manifest
        return (place, read_manifest(place)) if place.exists() else (None, None)
    try:
        item = find_item(path)
    except CheckpointError:  # opening the tree says why
        return None, None
    content, where = item.read(MANIFEST_NAME), f"{item}/{MANIFEST_NAME}"
    return (None, None) if content is None else (where, parse_manifest(content, where=where))


def _open(path: Path | str, config: Path | None) -> tuple[Checkpoint | None, str | None]:
    try:
        return open_checkpoint(path, config=config), None
    except CheckpointError as error:
        return None, str(error)


def _suspect_values(checkpoint: Checkpoint, damaged: set[str], progress: Progress) -> Iterator[Finding]:
    """Findings in all tensors; one that cannot be read is itself a finding, unless it is known as damaged."""
    with progress("reading", len(checkpoint)) as advance:
        for name in checkpoint:
            try:
                yield from find_corruption(checkpoint, [name])
            except CheckpointError as error:
                if name not in damaged:
                    yield Finding(tensor=name, file=None, problem=f"it cannot be read ({error})")
            advance(1)


@contextlib.contextmanager
def _no_progress(_what: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None
