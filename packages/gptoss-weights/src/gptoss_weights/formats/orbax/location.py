"""Where an Orbax checkpoint lies: a folder of this machine, or whatever a URL names that TensorStore opens.

The item, the folder with `_METADATA`, may be given itself, or the step around it, or the root around
a single step. Orbax works in folders called `….orbax-checkpoint-tmp…` and renames them at the end,
so one of those is a save that was never finished.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.orbax.backend import explained, load_tensorstore, shared_context
from gptoss_weights.places import is_url

if TYPE_CHECKING:
    import tensorstore

__all__ = [
    "CHECKPOINT_METADATA",
    "COMMIT_SUCCESS",
    "ITEM_NAMES",
    "OCDBT_MANIFEST",
    "TREE_METADATA",
    "Location",
    "find_item",
    "is_orbax",
]

TREE_METADATA = "_METADATA"  # names the leaves of an item
CHECKPOINT_METADATA = "_CHECKPOINT_METADATA"  # of an item on its own, or of a step
COMMIT_SUCCESS = "commit_success.txt"  # on object stores, where nothing can be renamed, it ends a save
OCDBT_MANIFEST = "manifest.ocdbt"  # the arrays stand in one database instead of a folder each
ITEM_NAMES = ("items", "default", "state")  # MaxText's; of Orbax's CheckpointManager; of Orbax v1
_MARKS = (TREE_METADATA, CHECKPOINT_METADATA, OCDBT_MANIFEST)
_TEMPORARY = ".orbax-checkpoint-tmp"  # orbax-checkpoint, atomicity_types.TMP_DIR_SUFFIX


class Location:
    """A folder, here (`path` is set) or behind a URL, where it is a key-value store of TensorStore.

    Args:
        shown: What users see.
        path: The folder, if it is of this machine.
        spec: Otherwise the key-value store, its path ending with a slash.
    """

    def __init__(self, shown: str, *, path: Path | None = None, spec: dict[str, Any] | None = None) -> None:
        self._shown, self.path, self._spec = shown, path, spec

    @staticmethod
    def at(path: Path | str) -> "Location":
        """The folder of that path or URL.

        Raises:
            CheckpointError: TensorStore opens no such URL.
            MissingDependencyError: it is a URL, and TensorStore is not installed.
        """
        if not is_url(path):
            return Location(str(path), path=Path(path))
        url = str(path).rstrip("/")
        library = load_tensorstore()
        with explained("this URL cannot be opened", where=url):
            return Location(url, spec=library.KvStore.Spec(f"{url}/").to_json())

    def __str__(self) -> str:
        return self._shown

    def __truediv__(self, name: str) -> "Location":
        shown = f"{self._shown}/{name}"
        if self.path is not None:
            return Location(shown, path=self.path / name)
        kvstore = self.kvstore()
        return Location(shown, spec={**kvstore, "path": f"{kvstore['path']}{name}/"})

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.absolute().name if self.path is not None else self._shown.rpartition("/")[2]

    @property
    def parent(self) -> "Location":
        """The folder around it."""
        if self.path is not None:
            folder = self.path.absolute().parent
            return Location(str(folder), path=folder)
        kvstore = self.kvstore()
        around = kvstore["path"].rstrip("/").rpartition("/")[0]
        return Location(self._shown.rpartition("/")[0], spec={**kvstore, "path": f"{around}/" if around else ""})

    def kvstore(self) -> dict[str, Any]:
        """The folder as a key-value store of TensorStore; its `path` ends with a slash."""
        if self.path is not None:
            return {"driver": "file", "path": f"{self.path.absolute()}/"}
        assert self._spec is not None
        return self._spec

    def open(self) -> "tensorstore.KvStore":
        """The key-value store, opened."""
        library = load_tensorstore()
        with explained("the place cannot be opened", where=self):
            opened: tensorstore.KvStore = library.KvStore.open(self.kvstore(), context=shared_context()).result()
        return opened

    def names(self) -> set[str]:
        """Names of the files and folders in it.

        Raises:
            CheckpointError: there is no such folder.
        """
        if self.path is None:
            return {key.partition("/")[0] for key in self.keys()}
        if not self.path.is_dir():
            raise CheckpointError("there is no such folder", where=self)
        return {child.name for child in self.path.iterdir()}

    def keys(self) -> list[str]:
        """Paths of all files in it, at any depth."""
        with explained("the place cannot be listed", where=self):
            return [key.decode() for key in self.open().list().result()]

    def has(self, name: str) -> bool:
        """Whether a file of that name is in it."""
        return (self.path / name).is_file() if self.path is not None else self.read(name) is not None

    def read(self, name: str) -> bytes | None:
        """A small file, or None if there is none."""
        if self.path is not None:
            return (self.path / name).read_bytes() if self.has(name) else None
        with explained(f"{name} cannot be read", where=self):
            found = self.open().read(name).result()
        return bytes(found.value) if found.state == "value" else None

    def write(self, name: str, content: bytes) -> None:
        """Writes a small file; a local one is synced to disk."""
        with explained(f"{name} cannot be written", where=self):
            self.open().write(name, content).result()

    def delete(self, name: str) -> None:
        """Removes a file, if it is there."""
        with explained(f"{name} cannot be removed", where=self):
            self.open().write(name, None).result()


def is_orbax(path: Path | str) -> bool:
    """Whether an Orbax checkpoint lies here, damaged and unfinished ones included; every URL counts as one.

    Looks at names only, two folders deep, and needs no TensorStore.
    """
    if is_url(path):
        return True
    folder = Path(path)
    return folder.is_dir() and (_TEMPORARY in folder.name or _is_marked(folder) or any(_orbax_steps(folder)))


def find_item(path: Path | str) -> Location:
    """The folder with `_METADATA`.

    Raises:
        CheckpointError: there is none, several steps could be meant, or the save was never finished.
        MissingDependencyError: it is a URL, and TensorStore is not installed.
    """
    given = Location.at(path)
    if _TEMPORARY in given.name:
        raise _unfinished(given)
    if item := _item_of(given):
        return item
    names = given.names()
    steps = sorted((name for name in names if name.isdecimal()), key=int)
    items = [item for step in steps if (item := _item_of(given / step))]
    if len(items) > 1:
        raise CheckpointError(
            f"the folder holds {len(items)} Orbax steps", where=given, found=", ".join(steps), fix="Give one of them."
        )
    if items:
        return items[0]
    if any(_TEMPORARY in name for name in names):
        raise _unfinished(given)
    raise CheckpointError(
        f"the Orbax checkpoint is damaged, or there is none: {TREE_METADATA} is missing",
        where=given / steps[0] if len(steps) == 1 else given,
        fix="Give the folder that holds it (of MaxText <run>/<step>/items), or copy it again.",
    )


def _item_of(folder: Location) -> Location | None:
    """The folder itself, or the item in it."""
    places = (folder, *(folder / name for name in ITEM_NAMES))
    return next((place for place in places if place.has(TREE_METADATA)), None)


def _is_marked(folder: Path) -> bool:
    places = (folder, *(folder / name for name in ITEM_NAMES))
    return any((place / mark).is_file() for place in places for mark in _MARKS)


def _orbax_steps(root: Path) -> Iterator[Path]:
    for child in root.iterdir():
        if child.is_dir() and (_TEMPORARY in child.name or (child.name.isdecimal() and _is_marked(child))):
            yield child


def _unfinished(where: Location) -> CheckpointError:
    return CheckpointError(
        "the Orbax checkpoint was never finished: an interrupted save left its temporary folder",
        where=where,
        fix="Give an earlier step, or save again.",
    )
