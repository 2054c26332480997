"""The target of an output: a folder, or a file and what stands beside it, which appears whole or not at all.

One process at a time works on a target: it holds a lock beside it, which the kernel lets go of when
the process dies, however it dies. Whoever comes second is told who holds it.
"""

import contextlib
import errno
import filecmp
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Never

from gptoss_weights.errors import CheckpointError, NotEnoughSpaceError
from gptoss_weights.file_lock import file_lock
from gptoss_weights.fingerprints import identity_of_files

__all__ = ["OutputTarget"]

_LOCK_BYTES = 512  # more than its content ever takes


class OutputTarget:
    """Where an output goes.

    Args:
        path: The folder, or the file.
        is_file: Whether it is a file; further files of the output then stand beside it.
    """

    def __init__(self, path: Path, *, is_file: bool) -> None:
        self.path = path.absolute() if path.name == "" else path  # "." has no name to rename to
        self.is_file = is_file
        self._lock = self.path.with_name(f".{self.path.name}.lock")
        self._completed: str | None = None

    @property
    def staging_folder(self) -> Path:
        """Where it is prepared; the same in every run."""
        return self.path.with_name(f".{self.path.name}.partial")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes away while the block runs.

        Raises:
            CheckpointError: the folder around the target is not there, nothing can be written in it, or another
                process works on the target.
        """
        if not self.path.parent.is_dir():
            raise CheckpointError("the folder to write into does not exist", where=self.path.parent)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(file_lock(self._lock, on_wait=self._refuse_held))
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise  # which has an exit code of its own
                raise CheckpointError(
                    f"{self._lock.name} cannot be made beside the target",
                    where=self.path.parent,
                    found=error.strerror,
                    fix="Choose another folder, or a shorter name.",
                ) from error
            self._completed = _read_lock(self._lock).get("completed")
            self._write_lock()
            yield

    def was_completed(self, job: Mapping[str, str] | None, *, own: frozenset[str]) -> bool:
        """Whether a process that was killed has completed this very job, and the target is still as it left it."""
        return self._completed is not None and job is not None and self._completed == self._identity(job, own)

    def note_completed(self, job: Mapping[str, str] | None, *, own: frozenset[str]) -> None:
        """Notes, for whoever comes after this process if it is killed, that everything is in place.

        Args:
            job: What was done; None if that cannot be known.
            own: As in `move_into_place`.
        """
        self._completed = None if job is None else self._identity(job, own)
        self._write_lock()

    def _identity(self, job: Mapping[str, str], own: frozenset[str]) -> str:
        if self.is_file:
            files = [path for name in own if (path := self.path.with_name(name)).exists()]
        else:
            files = [path for path in self.path.rglob("*") if path.is_file()]
        return hashlib.sha256(repr((sorted(job.items()), identity_of_files(files))).encode()).hexdigest()

    def _write_lock(self) -> None:
        """Says in the lock who holds it and what was completed, in one write that cannot be cut short."""
        content = {"process": os.getpid(), "machine": socket.gethostname(), "completed": self._completed}
        with self._lock.open("r+b", buffering=0) as file:
            file.write(json.dumps(content).encode().ljust(_LOCK_BYTES))

    def refuse_occupied(self, *names: str) -> None:
        """Refuses to write over anything.

        Args:
            names: Of the files that stand beside a target that is a file, itself included.

        Raises:
            CheckpointError: the target, or one of the files, is there already.
        """
        if not self.is_file and self.path.is_symlink():  # a folder cannot be moved over it
            raise CheckpointError(
                "the target is a symbolic link",
                where=self.path,
                found=f"it leads to {self.path.readlink()}",
                fix="Give the folder itself, or remove the link.",
            )
        if not self.is_file and self.path.is_dir() and not any(self.path.iterdir()):
            return
        for path in [self.path.with_name(name) for name in names] if self.is_file else [self.path]:
            if path.exists() or path.is_symlink():
                is_full = path.is_dir() and not self.is_file
                what = "the target is not empty" if is_full else "the target is there already"
                raise CheckpointError(what, where=path, fix="Choose another, or remove it first.")

    def refuse_foreign_side_files(self, side_files: Mapping[str, Path]) -> None:
        """Refuses to put a file beside another checkpoint's: whoever reads a bundle takes what stands beside it.

        Args:
            side_files: Name → path of what is to stand beside a target that is a file.

        Raises:
            CheckpointError: a file of that name stands there, with other content.
        """
        for name, source in side_files.items() if self.is_file else ():
            _refuse_other_content(self.path.with_name(name), source)

    def check_space(self, needed: int) -> None:
        """Holds the free space against what will be written, less what an interrupted run has left.

        Raises:
            NotEnoughSpaceError: the disk cannot hold it.
        """
        needed -= _occupied_bytes(self.staging_folder)
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise NotEnoughSpaceError(
                "the disk cannot hold the checkpoint",
                where=self.path,
                expected=f"{needed} bytes free",
                found=f"{free} bytes",
            )

    def move_into_place(self, files: Path, *, own: frozenset[str]) -> None:
        """Moves what was prepared to where it belongs; what was moved before an interruption stays.

        Args:
            files: The folder that it was prepared in.
            own: Names of the output's own files; others (a tokenizer) may be there already, beside a file.

        Raises:
            CheckpointError: something else has appeared there.
        """
        if not files.exists():
            return
        if self.is_file:
            # The file itself comes last: whoever sees it finds what belongs to it.
            for path in sorted(files.iterdir(), key=lambda path: (path.name == self.path.name, path.name)):
                _move_beside(path, self.path.with_name(path.name), is_own=path.name in own)
            return
        try:
            files.rename(self.path)  # atomic; over an empty folder too
        except OSError as error:
            if self.path.exists():
                raise CheckpointError("the target appeared while it was being written", where=self.path) from error
            raise

    def _refuse_held(self) -> Never:
        holder = _read_lock(self._lock)
        if "process" in holder:
            found = f"process {holder['process']} on {holder['machine']}"
        else:
            found = "a process that has only just begun, or ended"
        raise CheckpointError(
            "another process is writing it", where=self.path, found=found, fix="Wait until it is done, or stop it."
        )


def _read_lock(lock: Path) -> dict[str, Any]:
    """What stands in the lock; nothing if that is not whole."""
    try:
        content = json.loads(lock.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _move_beside(source: Path, target: Path, *, is_own: bool) -> None:
    if target.exists() and not target.samefile(source):
        if is_own:
            raise CheckpointError("the target appeared while it was being written", where=target)
        _refuse_other_content(target, source)
        return
    source.rename(target)


def _refuse_other_content(target: Path, source: Path) -> None:
    if target.exists() and not filecmp.cmp(source, target, shallow=False):
        raise CheckpointError(
            f"another checkpoint's {target.name} stands beside the target, and would be taken for this one's",
            where=target,
            fix="Choose a folder of its own.",
        )


def _occupied_bytes(folder: Path) -> int:
    """What the files of a folder take of the disk; holes take nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(root, name).lstat().st_blocks * 512  # POSIX: st_blocks counts 512 bytes
    return total
