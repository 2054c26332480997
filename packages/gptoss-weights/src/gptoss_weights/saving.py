"""save_checkpoint: streams a checkpoint to where it appears whole or not at all, in any format.

Everything is written into a folder beside the target and moved when it is complete. Memory holds one
piece at a time; bytes that are stored already as they should be are copied by the kernel. A run that
was interrupted, however hard, leaves that folder: the same call goes on from there and ends in the
same bytes. After an error nothing is left.
"""

import dataclasses
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.durable_files import sync, sync_tree
from gptoss_weights.errors import CheckpointError, GptOssWarning
from gptoss_weights.fingerprints import identity_of_files
from gptoss_weights.formats.base import Format
from gptoss_weights.formats.names import FormatName
from gptoss_weights.formats.orbax.format import OrbaxFormat
from gptoss_weights.formats.registry import format_named
from gptoss_weights.manifest import RecordedChecksums, TensorHalf, find_artefact, make_manifest, refuse_changed_source
from gptoss_weights.opening import open_checkpoint
from gptoss_weights.output.files import OutputFiles
from gptoss_weights.output.pieces import Output, write_pieces
from gptoss_weights.output.staging import Staging
from gptoss_weights.output.target import OutputTarget
from gptoss_weights.places import as_place
from gptoss_weights.views import cast, dequantized
from gptoss_weights.views.casting import float_dtype

__all__ = ["SavePlan", "plan_save", "save_checkpoint"]

_JOB_VERSION = "3"  # of the bytes that a job ends in: to be raised when a writer changes them


def save_checkpoint(
    checkpoint: Checkpoint,
    path: Path | str,
    *,
    format: FormatName = "openai",  # noqa: A002 - as the attribute of Checkpoint
    dtype: DTypeLike | None = None,
    max_shard_bytes: int | None = None,
    durable: bool = True,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Writes a checkpoint: weights, index, config, the files that travel along, and a manifest of it all.

    Args:
        checkpoint: What to write. "openai" and "hf" hold experts packed as MXFP4: wrap it in
            `quantized` if they are not. The other formats hold them plain, and they are decoded.
        path: The folder to make, which may exist if it is empty; for "flax" the `.msgpack` file; for
            the Orbax trees also a URL that TensorStore opens; nothing can be renamed there, so the tree
            appears array by array, and becomes a checkpoint with its last files.
        format: "openai" (`original/`), "hf" (MXFP4), "hf-bf16" (plain), "flax" (a bundle), or
            "orbax-scanned" or "orbax-unscanned" (MaxText's trees).
        dtype: Of the plain arrays, which are rounded to it. By default they have to be bfloat16, as
            published, and nothing is rounded.
        max_shard_bytes: Most tensor bytes in one safetensors file; by default as published.
        durable: Wait until the disk has everything before it is moved into place. Otherwise the system
            writes it in its own time, as after `cp`: a power failure may leave it damaged.
        progress: Called with the number of bytes after each piece that is written, or was before.

    Raises:
        CheckpointError: the target is there already, its parent is not, another process is writing
            it, the geometry does not fit the format, a value does not fit the dtype, or a tensor that is
            not merely copied is no longer what the source's manifest says.
        NotEnoughSpaceError: the disk cannot hold it.
        MissingDependencyError: an Orbax tree, without the extra `orbax`.
        ValueError: no such format, or a tensor is not as the format stores it.
    """
    plan = plan_save(checkpoint, path, format=format, dtype=dtype, max_shard_bytes=max_shard_bytes)
    plan.carry_out(durable=durable, progress=progress)


def plan_save(
    checkpoint: Checkpoint,
    path: Path | str,
    *,
    format: FormatName = "openai",  # noqa: A002 - as the attribute of Checkpoint
    dtype: DTypeLike | None = None,
    max_shard_bytes: int | None = None,
) -> "SavePlan":
    """Plans what `save_checkpoint` then does, without writing anything.

    Raises:
        CheckpointError, MissingDependencyError, ValueError: as `save_checkpoint`, as far as it is
            known before anything is written.
    """
    chosen = format_named(format)
    place = as_place(path)
    if isinstance(place, str) and not isinstance(chosen, OrbaxFormat):
        raise CheckpointError(
            "only Orbax trees can be written to a URL", where=place, found=chosen.name, fix="Write to a folder first."
        )
    if chosen.suffix and Path(place).suffix != chosen.suffix:
        raise ValueError(f"{place}: the target of {format} is a file that ends with {chosen.suffix}")
    array_dtype = float_dtype("bfloat16" if dtype is None else dtype)
    chosen.check(checkpoint.config, array_dtype)
    prepared = _prepared(checkpoint, chosen, array_dtype, is_cast=dtype is not None)
    output = chosen.output(
        prepared, target_name=Path(place).absolute().name, dtype=array_dtype, max_shard_bytes=max_shard_bytes
    )
    job = _job(checkpoint, format, dtype, max_shard_bytes)
    return SavePlan(path=place, format=chosen, checkpoint=prepared, output=output, job=job)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavePlan:
    """What is going to be written.

    Attributes:
        path: Where to; a text if it is a URL.
        format: How.
        checkpoint: What, with its experts as the format holds them and its arrays of one dtype.
        output: Its files and their sizes, and the pieces that make them.
        job: What decides the bytes of the output; None where that cannot be known.
    """

    path: Path | str
    format: Format
    checkpoint: Checkpoint
    output: Output
    job: Mapping[str, str] | None

    def carry_out(self, *, durable: bool = True, progress: Callable[[int], object] = lambda _: None) -> None:
        """Does it; the arguments, and what is raised, are those of `save_checkpoint`."""
        side_files = self.checkpoint.side_files
        if isinstance(self.path, str):
            from gptoss_weights.uploading import upload_orbax  # needs TensorStore

            assert isinstance(self.format, OrbaxFormat)
            scanned = self.format.is_scanned
            refuse_changed_source(self.checkpoint, RecordedChecksums())
            upload_orbax(
                self.checkpoint, self.path, is_scanned=scanned, job=self.job, side_files=side_files, progress=progress
            )
            return
        target = OutputTarget(self.path, is_file=bool(self.format.suffix))
        with target.held():
            staging = Staging(target.staging_folder)
            written = staging.files / target.path.name if target.is_file else staging.files
            manifest = find_artefact(written).manifest.name if target.is_file else None
            own = frozenset([*self.output.sizes, *([manifest] if manifest else [])])
            if target.was_completed(self.job, own=own):  # and then killed, before all traces were removed
                staging.discard()
                return
            if not staging.is_finished(self.job):
                target.refuse_occupied(*own)
                target.refuse_foreign_side_files(side_files)
                target.check_space(self.output.nbytes + sum(path.stat().st_size for path in side_files.values()))
                recorded = RecordedChecksums()
                refuse_changed_source(self.checkpoint, recorded)
                _write(
                    self.output, side_files, staging, self.job, progress, recorded, manifest_of=written, durable=durable
                )
                if durable:
                    sync_tree(staging.files)
                staging.finish()
            target.move_into_place(staging.files, own=own)
            if durable:
                sync(target.path.parent)
            target.note_completed(self.job, own=own)
            staging.discard()


def _prepared(checkpoint: Checkpoint, chosen: Format, dtype: np.dtype, *, is_cast: bool) -> Checkpoint:
    """The checkpoint with its experts as the format holds them and its arrays of one dtype."""
    prepared = cast(checkpoint, dtype) if is_cast else checkpoint
    for name, spec in prepared.specs.items():
        found = prepared.array_dtype(name)
        if chosen.is_packed and spec.is_expert_matrix:
            if found is not None:
                raise ValueError(
                    f"{name} is {found}, not packed as MXFP4, but {chosen.name} holds it so; wrap the checkpoint "
                    "in quantized() first"
                )
        elif found is None and not spec.is_expert_matrix:
            raise ValueError(f"{name} is packed as MXFP4, but {chosen.name} holds it as {dtype}")
        elif found is not None and found != dtype:  # (None would count as float64)
            raise ValueError(f"{name} is {found}; give dtype={dtype.name!r} to have arrays rounded to it")
    return prepared if chosen.is_packed else dequantized(prepared, dtype)


def _write(
    output: Output,
    side_files: Mapping[str, Path],
    staging: Staging,
    job: Mapping[str, str] | None,
    progress: Callable[[int], object],
    recorded: RecordedChecksums,
    *,
    manifest_of: Path,
    durable: bool,
) -> None:
    checksums = staging.begin(job)
    pieces = list(output.pieces())

    def record(key: str, checksum: str | None) -> None:
        staging.record(key, checksum)
        checksums[key] = checksum

    try:
        for name, source in side_files.items():
            shutil.copyfile(source, staging.files / name)
        with OutputFiles(staging.files, known_checksum=recorded, starts_sync=durable) as files:
            for nbytes in write_pieces(pieces, files, done=frozenset(checksums), record=record):
                progress(nbytes)
        copied = {piece.copies: checksum for piece in pieces if piece.copies and (checksum := checksums[piece.key])}
        _write_manifest(manifest_of, staging.folder / "manifest.json", copied)
    except Exception:  # not an interruption: the same call would fail again, and a full disk wants its room back
        staging.discard()
        raise


def _write_manifest(path: Path, draft: Path, copied: Mapping[TensorHalf, str]) -> None:
    """Writes the manifest of what stands at a path; the draft keeps interruptions from leaving half of it there."""
    artefact = find_artefact(path)
    with warnings.catch_warnings():  # of unknown keys, which whoever opened the source has seen
        warnings.simplefilter("ignore", GptOssWarning)
        written = open_checkpoint(path)
    draft.write_text(make_manifest(written, artefact, known=copied).to_text(), encoding="utf-8")
    draft.replace(artefact.manifest)


def _job(
    checkpoint: Checkpoint, format_name: str, dtype: DTypeLike | None, max_shard_bytes: int | None
) -> dict[str, str] | None:
    fingerprint = checkpoint.fingerprint()
    if fingerprint is None:
        return None
    return {
        "version": _JOB_VERSION,
        "format": format_name,
        "dtype": "" if dtype is None else float_dtype(dtype).name,
        "max_shard_bytes": str(max_shard_bytes),
        "checkpoint": fingerprint,
        "side_files": repr(identity_of_files(checkpoint.side_files.values())),
    }
