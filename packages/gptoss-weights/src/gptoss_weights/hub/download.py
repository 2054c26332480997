"""download_checkpoint: one layout of a published checkpoint, whole and verified, or resumable.

The output mirrors the repository's paths. A file appears under its name only once its size and hash
are those that the Hub states; until then what has arrived waits in `OUTPUT/.gptoss-weights/`, and the
next run goes on from there. Files that are there already are held against their hash again, so a
second run of a finished download is a verification.
"""

import contextlib
import dataclasses
import errno
import functools
import warnings
from collections.abc import Callable
from pathlib import Path

from gptoss_weights.errors import GptOssWarning, NotEnoughSpaceError
from gptoss_weights.file_lock import file_lock
from gptoss_weights.hub.connection import HubConnection
from gptoss_weights.hub.listing import Listing, RemoteFile, list_files
from gptoss_weights.hub.partial_file import PartialFile, drop_superseded, has_content, partial_path
from gptoss_weights.hub.plan import STATE_FOLDER, DownloadPlan, check_space, plan_download
from gptoss_weights.hub.selection import LayoutChoice
from gptoss_weights.hub.transfer import complete_file

__all__ = ["Progress", "download_checkpoint"]

DEFAULT_RETRIES = 5
DEFAULT_BACKOFF_S = 1.0
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a download is: the file at hand, and the bytes of all files that are there."""

    path: str
    arrived_bytes: int
    total_bytes: int


def download_checkpoint(
    repo: str,
    *,
    layout: LayoutChoice = "original",
    revision: str | None = None,
    output: Path | str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
    dry_run: bool = False,
    timeout_s: float | None = None,
    retries: int = DEFAULT_RETRIES,
    backoff_s: float = DEFAULT_BACKOFF_S,
    on_progress: Callable[[Progress], object] = lambda _: None,
) -> DownloadPlan:
    """Downloads one layout of a repository on the Hugging Face Hub, with config, tokenizer and licence.

    Args:
        repo: `owner/name`.
        layout: "original" (OpenAI's), "hf" (Hugging Face's with MXFP4 experts), or "all" files.
        revision: A branch, tag or commit; by default the main branch.
        output: The folder that will mirror the repository; by default one of its name in the current
            folder. A file that lies there under the name of another content is replaced.
        token: A token, True for the stored one, False for none; by default the stored one or
            `HF_TOKEN`, if there is any.
        endpoint: The Hub's address; by default `HF_ENDPOINT` or https://huggingface.co.
        dry_run: Whether to stop before anything is written.
        timeout_s: How long to wait for a connection and for the next byte, in seconds; by default
            `HF_HUB_DOWNLOAD_TIMEOUT` or 10.
        retries: How often in a row to try again without getting any further.
        backoff_s: The pause before the first of these tries, in seconds; it doubles with each.
        on_progress: Called as bytes arrive.

    Returns:
        What there was to do; `plan.checkpoint` is the folder for `open_checkpoint`.

    Raises:
        NetworkError: the Hub cannot be reached, refuses, breaks off for good, or sends other bytes
            than it lists.
        CheckpointError: the repository has no weights in that layout, or the output is a file.
        NotEnoughSpaceError: the disk cannot hold it.
        ValueError: an argument is impossible, such as the name of the repository.
    """
    connection = HubConnection.open(
        repo,
        revision=revision,
        endpoint=endpoint,
        token=token,
        timeout_s=timeout_s,
        retries=retries,
        backoff_s=backoff_s,
    )
    listing = list_files(connection, layout)
    plan = plan_download(listing, layout, Path(repo.rpartition("/")[2] if output is None else output))
    if dry_run:
        return plan
    check_space(plan)
    state = plan.output / STATE_FOLDER
    is_new = not plan.output.exists()
    try:
        with file_lock(state / "lock", on_wait=lambda: _say_busy(plan.output)):
            damaged = _download(listing, plan, state, on_progress)
    finally:
        with contextlib.suppress(OSError):  # a folder is not removed if it keeps anything
            state.rmdir()
            if is_new:
                plan.output.rmdir()
    files = tuple(dataclasses.replace(file, present_bytes=0) if file.path in damaged else file for file in plan.files)
    return dataclasses.replace(plan, files=files)


def _download(
    listing: Listing, plan: DownloadPlan, state: Path, on_progress: Callable[[Progress], object]
) -> frozenset[str]:
    """Brings every file; returns the paths of those that were there in their size, with another content."""
    done = 0
    present = {file.path for file in plan.files if file.present_bytes == file.nbytes}
    damaged = set()
    for file in sorted(listing.files, key=lambda file: (file.nbytes, file.path)):
        report = functools.partial(_report, on_progress, file.path, done, plan.total_bytes)
        report(0)
        drop_superseded(state, file.path, file.content)
        if has_content(plan.output / file.path, file.nbytes, file.content):
            partial_path(state, file.path, file.content).unlink(missing_ok=True)
        else:
            if file.path in present and (plan.output / file.path).is_file():
                damaged.add(file.path)
            _fetch(listing.connection, file, plan.output, state, report)
        report(file.nbytes)
        done += file.nbytes
    return frozenset(damaged)


def _report(
    on_progress: Callable[[Progress], object], path: str, done_bytes: int, total_bytes: int, arrived_bytes: int
) -> None:
    on_progress(Progress(path, done_bytes + arrived_bytes, total_bytes))


def _fetch(
    connection: HubConnection, file: RemoteFile, output: Path, state: Path, report: Callable[[int], object]
) -> None:
    try:
        with PartialFile(partial_path(state, file.path, file.content), file.nbytes, file.content) as partial:
            report(partial.arrived)
            complete_file(connection, file, partial, on_arrival=report)
            partial.publish(output / file.path)
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise NotEnoughSpaceError(
            "the disk is full",
            where=output / file.path,
            fix="What has arrived is kept: make room and run again to go on from there.",
        ) from error


def _say_busy(output: Path) -> None:
    warnings.warn(f"{output}: another download into this folder is running; waiting for its end", GptOssWarning)
