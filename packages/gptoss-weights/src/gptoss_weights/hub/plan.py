"""What a download will fetch, what is there already, and whether the disk can hold the rest."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from gptoss_weights.errors import CheckpointError, NotEnoughSpaceError
from gptoss_weights.hub.content_hash import ContentHash
from gptoss_weights.hub.listing import Listing, RemoteFile
from gptoss_weights.hub.partial_file import partial_path
from gptoss_weights.hub.selection import ORIGINAL_FOLDER, LayoutChoice

__all__ = ["STATE_FOLDER", "DownloadPlan", "PlannedFile", "check_space", "plan_download"]

# In the output while a download is under way: partial files and the lock.
STATE_FOLDER = ".gptoss-weights"


@dataclasses.dataclass(frozen=True)
class PlannedFile:
    """A file of a download.

    Attributes:
        path: Its path in the repository, and below the output.
        nbytes: Its size.
        present_bytes: How much of it was there before, judged by sizes alone; after a download, by hashes too.
        content: The hash that it must have.
    """

    path: str
    nbytes: int
    present_bytes: int
    content: ContentHash


@dataclasses.dataclass(frozen=True)
class DownloadPlan:
    """What a download consists of, as it was found before anything was fetched.

    Attributes:
        repo: The repository.
        commit: Its commit that the revision stood for.
        layout: "original", "hf" or "all".
        output: The folder that mirrors the repository.
        files: The files of the layout, by path.
        left_out: How many files of the repository belong to other layouts only.
        left_out_bytes: Their bytes.
    """

    repo: str
    commit: str
    layout: LayoutChoice
    output: Path
    files: tuple[PlannedFile, ...]
    left_out: int
    left_out_bytes: int

    @property
    def checkpoint(self) -> Path:
        """The folder for `open_checkpoint`."""
        return self.output / ORIGINAL_FOLDER if self.layout == "original" else self.output

    @property
    def total_bytes(self) -> int:
        """The size of all files."""
        return sum(file.nbytes for file in self.files)

    @property
    def missing_bytes(self) -> int:
        """How much of it was still to fetch."""
        return sum(file.nbytes - file.present_bytes for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """The plan as a JSON document."""
        return {
            "repo": self.repo,
            "commit": self.commit,
            "layout": self.layout,
            "output": str(self.output),
            "checkpoint": str(self.checkpoint),
            "total_bytes": self.total_bytes,
            "missing_bytes": self.missing_bytes,
            "left_out_files": self.left_out,
            "left_out_bytes": self.left_out_bytes,
            "files": [
                {
                    "path": file.path,
                    "bytes": file.nbytes,
                    "present_bytes": file.present_bytes,
                    file.content.algorithm.replace("-", "_"): file.content.hexdigest,
                }
                for file in self.files
            ],
        }


def plan_download(listing: Listing, layout: LayoutChoice, output: Path) -> DownloadPlan:
    """Looks what of a layout is there already; by sizes, so at once.

    Raises:
        CheckpointError: the output is no folder.
    """
    if output.exists() and not output.is_dir():
        raise CheckpointError("the output is a file", where=output, expected="a folder, or nothing")
    return DownloadPlan(
        repo=listing.connection.repo,
        commit=listing.connection.revision or "main",
        layout=layout,
        output=output,
        files=tuple(
            PlannedFile(file.path, file.nbytes, _present_bytes(output, file), file.content) for file in listing.files
        ),
        left_out=listing.left_out,
        left_out_bytes=listing.left_out_bytes,
    )


def check_space(plan: DownloadPlan) -> None:
    """Refuses a download that cannot fit.

    Raises:
        NotEnoughSpaceError: the disk has less room than is still to come.
    """
    folder = plan.output.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if plan.missing_bytes > free:
        raise NotEnoughSpaceError(
            "the disk cannot hold the download",
            where=plan.output,
            expected=f"{plan.missing_bytes} bytes free",
            found=f"{free} bytes",
        )


def _present_bytes(output: Path, file: RemoteFile) -> int:
    final, partial = output / file.path, partial_path(output / STATE_FOLDER, file.path, file.content)
    if final.is_file() and final.stat().st_size == file.nbytes:
        return file.nbytes
    return min(partial.stat().st_size, file.nbytes) if partial.is_file() else 0
