"""The staging folder: what is written of an output so far, beside the target, and what that belongs to.

    .<target>.partial/job.json   what is being written; the same job goes on, another starts anew
                     /done       a line for each piece that is written, with its checksum if it has one
                     /files/     the output itself

A killed process loses nothing that it has handed to the system, so a line in `done` stands for bytes
that are there; nothing has to be waited for. After a crash of the machine that is not so: `job.json`
names the boot that it was written under, and under another one the job starts anew.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from gptoss_weights.json_files import load_json_object

__all__ = ["Staging"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux; elsewhere a crash of the machine goes unseen


class Staging:
    """What is done of one job. Only one process may hold it; `target.OutputTarget` sees to that.

    Args:
        folder: The staging folder, there or not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / "files"
        self._job, self._done = folder / "job.json", folder / "done"

    def begin(self, job: Mapping[str, str] | None) -> dict[str, str | None]:
        """Makes the folder, or takes up the one that is there if it is of the same job.

        Args:
            job: What decides the bytes of the output; None if that cannot be known, and nothing is taken up.

        Returns:
            Keys of the pieces that are done → what was recorded with them.
        """
        document = None if job is None else {"job": dict(job), "boot": _boot_id()}
        if document is not None and self._read_job() == document and self.files.is_dir():
            return self._read_done()
        self.discard()
        self.files.mkdir(parents=True)
        self._done.touch()
        self._write_job(document or {})
        return {}

    def record(self, key: str, checksum: str | None = None) -> None:
        """Notes that a piece is written, and a checksum of it."""
        with self._done.open("a", encoding="utf-8") as file:
            file.write(f"{key}\t{checksum or ''}\n")

    def finish(self) -> None:
        """Notes that everything is written and only has to be moved into place."""
        self._write_job({**(self._read_job() or {}), "finished": True})

    def is_finished(self, job: Mapping[str, str] | None) -> bool:
        """Whether this job was written to its end, so that at most moving it into place is left."""
        found = self._read_job()
        return found is not None and job is not None and found.get("job") == dict(job) and bool(found.get("finished"))

    def discard(self) -> None:
        """Removes the folder, in an order that leaves no false claim if this is interrupted."""
        if not self.folder.exists():
            return
        self._done.unlink(missing_ok=True)  # nothing counts as written any more
        shutil.rmtree(self.files, ignore_errors=True)
        for child in self.folder.iterdir():
            if child != self._job:
                child.unlink()
        self._job.unlink(missing_ok=True)  # that the output was finished is forgotten last
        self.folder.rmdir()

    def _read_job(self) -> dict[str, object] | None:
        return load_json_object(self._job) if self._job.exists() else None

    def _write_job(self, document: Mapping[str, object]) -> None:
        draft = self.folder / "job.json.new"
        draft.write_text(json.dumps(document), encoding="utf-8")
        draft.replace(self._job)

    def _read_done(self) -> dict[str, str | None]:
        if not self._done.exists():
            return {}
        lines = self._done.read_text(encoding="utf-8").split("\n")[:-1]  # a line without its end was cut short
        return {key: checksum or None for key, _, checksum in (line.partition("\t") for line in lines)}


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
