"""Makes the manifest of an artefact by opening it and reading back what stands on disk, whoever wrote it.

A conversion spares itself a part of that: of what it has only copied it knows the checksums, which
are those of the source. So what its manifest says is what should be there, and `verify` finds copying
that went wrong.
"""

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gptoss_weights.checkpoint import Checkpoint, StoredArray, StoredMxfp4
from gptoss_weights.config_dialects.numbers import NUMBERS
from gptoss_weights.formats.folder import read_folder
from gptoss_weights.formats.orbax.tree import orbax_leaves
from gptoss_weights.manifest.artefact import Artefact, find_artefact
from gptoss_weights.manifest.document import FileEntry, Manifest, TensorEntry
from gptoss_weights.manifest.hashing import Checksums, TensorHalf, hash_artefact, hash_tensor
from gptoss_weights.opening import open_checkpoint

__all__ = ["assemble_manifest", "make_manifest", "tensor_dtype", "write_manifest"]

_DATABASE = "manifest.ocdbt"  # the arrays of an Orbax tree stand in one database, and not in a folder each


def write_manifest(
    path: Path | str,
    *,
    config: Path | None = None,
    manifest: Path | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Path:
    """Writes the manifest of the checkpoint at a path, in place of an earlier one; it appears whole.

    What is written depends on the contents and on the names below the folder, not on where it is.

    Args:
        path: What `open_checkpoint` opens: a folder, or a `.msgpack` file.
        config: The config, if it stands elsewhere.
        manifest: Where to write it instead of `manifest.json`, or `<stem>.manifest.json`.
        on_bytes: Called with the number of bytes of files that have been hashed since the last call,
            from other threads, but never from two at a time.

    Returns:
        Where it is.

    Raises:
        CheckpointError: the checkpoint does not open.
    """
    artefact = find_artefact(path)
    target = manifest or artefact.manifest
    made = make_manifest(open_checkpoint(path, config=config), artefact, on_bytes=on_bytes)
    made.write(target)
    return target


def make_manifest(
    checkpoint: Checkpoint,
    artefact: Artefact,
    *,
    known: Mapping[TensorHalf, str] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Manifest:
    """The manifest of an opened checkpoint.

    A conversion calls this last, on its staging folder, so that a manifest comes with every artefact.

    Args:
        checkpoint: What was opened.
        artefact: Where it was opened from.
        known: BLAKE3 of tensors, or halves of them, that were copied into it as they are; they are
            not read again. Each is a canonical name, and "values", "blocks" or "scales".
        on_bytes: As in `write_manifest`.
    """
    files = {file: artefact.path(file) for file in artefact.files()}
    entries, checksums = hash_artefact(checkpoint, files, known=known, on_bytes=on_bytes)
    return _manifest(checkpoint, entries, checksums, _places(checkpoint, artefact))


def assemble_manifest(checkpoint: Checkpoint, files: Mapping[str, FileEntry]) -> Manifest:
    """The manifest of an Orbax tree behind a URL, whose files have been hashed; its tensors are read."""
    checksums = {name: hash_tensor(checkpoint, name) for name in checkpoint}
    return _manifest(checkpoint, files, checksums, _places_of_leaves(checkpoint))


def _manifest(
    checkpoint: Checkpoint,
    files: Mapping[str, FileEntry],
    checksums: Mapping[str, Checksums],
    places: Mapping[str, list[str]],
) -> Manifest:
    tensors = {
        name: TensorEntry(
            dtype=tensor_dtype(checkpoint, name),
            shape=checkpoint.specs[name].shape,
            checksums=checksums[name],
            files=tuple(places[name]),
        )
        for name in checkpoint
    }
    return Manifest(
        writer={"gptoss-weights": importlib.metadata.version("gptoss-weights")},
        format=checkpoint.format,
        config={name: getattr(checkpoint.config, name) for name in NUMBERS},
        files=files,
        tensors=tensors,
    )


def tensor_dtype(checkpoint: Checkpoint, name: str) -> str:
    """The dtype of a tensor as manifests call it."""
    dtype = checkpoint.array_dtype(name)
    return "MXFP4" if dtype is None else dtype.name


def _places(checkpoint: Checkpoint, artefact: Artefact) -> dict[str, list[str]]:
    """Canonical name → the files that hold some of it, or folders, ending with a slash."""
    if artefact.bundle is not None:
        return {name: [artefact.bundle.name] for name in checkpoint}
    if artefact.kind == "orbax":
        return _orbax_places(checkpoint, artefact)
    raw = read_folder(artefact.root).tensors
    weights = {stored.path for stored in raw.values()}
    found: dict[str, list[str]] = {}
    for name in checkpoint:
        stored = checkpoint.stored(name)
        if stored is not None:
            paths = {array.path for array in _arrays(stored)}
        else:  # not as it is; plain expert matrices of Hugging Face, which stand transposed, have their own names
            paths = {raw[name].path} if name in raw else weights
        found[name] = sorted(path.relative_to(artefact.root).as_posix() for path in paths)
    return found


def _arrays(stored: StoredArray | StoredMxfp4) -> Iterable[StoredArray]:
    return (stored.blocks, stored.scales) if isinstance(stored, StoredMxfp4) else (stored,)


def _orbax_places(checkpoint: Checkpoint, artefact: Artefact) -> dict[str, list[str]]:
    if (artefact.root / _DATABASE).exists():
        return {name: [file for file in artefact.files() if "/" in file] for name in checkpoint}
    return _places_of_leaves(checkpoint)


def _places_of_leaves(checkpoint: Checkpoint) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in checkpoint}
    for leaf in orbax_leaves(checkpoint.config, is_scanned=checkpoint.format == "orbax-scanned"):
        for spec in leaf.specs:
            found[spec.name].append(f"{leaf.key}/")
    return found
