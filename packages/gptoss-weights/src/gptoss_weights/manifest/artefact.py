"""An artefact: the folder that its files are named from, which of them belong, and where its manifest stands.

What belongs is what a reader of the checkpoint looks at, and what travels along: weights, config,
index, tokenizer, template, licence. So a README may come and go.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.flax_msgpack.tree import flax_config_path
from gptoss_weights.formats.folder import INDEX_NAME, SIDE_FILES, read_folder
from gptoss_weights.formats.impostors import refuse_stray_file
from gptoss_weights.formats.orbax.location import find_item, is_orbax
from gptoss_weights.places import as_place, require_existing

__all__ = ["MANIFEST_NAME", "Artefact", "find_artefact"]

MANIFEST_NAME = "manifest.json"
_MANIFEST_SUFFIX = ".manifest.json"
_MSGPACK = ".msgpack"
_SMALL_FILES = ("config.json", "dtypes.json", INDEX_NAME, *SIDE_FILES)
_ORBAX_SMALL_FILES = ("config.json", "commit_success.txt", "manifest.ocdbt", *SIDE_FILES)
_LOCK = ".__lock"  # of TensorStore, beside a file while it is written


@dataclasses.dataclass(frozen=True)
class Artefact:
    """A checkpoint on disk.

    Attributes:
        root: The folder that the paths in the manifest begin at.
        manifest: Where the manifest stands, or would.
        kind: What it is, told by names alone.
        bundle: The `.msgpack` file, of a Flax bundle.
    """

    root: Path
    manifest: Path
    kind: str
    bundle: Path | None = None

    def files(self) -> list[str]:
        """Paths of all files that belong, from the root, with slashes; sorted.

        Raises:
            CheckpointError: the folder holds no weights, or its index is unreadable.
        """
        return sorted({path.relative_to(self.root).as_posix() for path in self._paths() if path.is_file()})

    def path(self, file: str) -> Path:
        """Where a file of the artefact stands."""
        return self.root / file

    def _paths(self) -> Iterator[Path]:
        if self.bundle is not None:
            configs = flax_config_path(self.bundle), self.bundle.with_name(f"{self.bundle.name}.config.json")
            yield from (self.bundle, *configs, *(self.root / name for name in SIDE_FILES))
        elif self.kind == "orbax":
            yield from (self.root / name for name in _ORBAX_SMALL_FILES)
            for child in self.root.iterdir():
                if child.is_dir():
                    yield from (path for path in child.rglob("*") if not path.name.endswith(_LOCK))
                elif child.name.startswith("_"):  # _METADATA, _CHECKPOINT_METADATA, _sharding, …
                    yield child
        else:
            yield from (self.root / name for name in _SMALL_FILES)
            yield from {stored.path for stored in read_folder(self.root).tensors.values()}


def find_artefact(path: Path | str) -> Artefact:
    """The artefact at a path that a checkpoint is opened from; it may be damaged.

    Raises:
        CheckpointError: there is nothing of that name, or it is behind a URL.
    """
    place = as_place(path)
    if not isinstance(place, Path):
        raise CheckpointError(
            "manifests are of what stands on this machine",
            where=place,
            fix="Copy the checkpoint here, or give the manifest of another layout.",
        )
    if place.suffix == _MSGPACK and not place.is_dir():
        return _bundle(place)
    require_existing(place)
    if not place.is_dir():
        refuse_stray_file(place)
    if is_orbax(place):
        return _orbax(place)
    return _bundle_in(place) or Artefact(place, place / MANIFEST_NAME, "safetensors")


def _bundle(path: Path) -> Artefact:
    return Artefact(path.parent, path.with_suffix(_MANIFEST_SUFFIX), "flax", path)


def _bundle_in(folder: Path) -> Artefact | None:
    """The one bundle of a folder that holds nothing else, or held it as its manifest says."""
    if (folder / MANIFEST_NAME).exists() or any(folder.glob("*.safetensors")):
        return None
    bundles = list(folder.glob(f"*{_MSGPACK}"))
    if not bundles:
        manifests = folder.glob(f"*{_MANIFEST_SUFFIX}")
        bundles = [path.with_name(path.name.removesuffix(_MANIFEST_SUFFIX) + _MSGPACK) for path in manifests]
    return _bundle(bundles[0]) if len(bundles) == 1 else None


def _orbax(place: Path) -> Artefact:
    try:
        root = find_item(place).path or place
    except CheckpointError:  # damaged; opening it will say how
        root = next((path.parent for path in place.glob(f"**/{MANIFEST_NAME}")), place)
    return Artefact(root, root / MANIFEST_NAME, "orbax")
