"""Downloads that stop go on where they were, whatever stopped them: the line, the disk, another process."""

import itertools
import shutil
import threading
import time
from collections import namedtuple

import pytest
from gptoss_weights import CheckpointError, GptOssWarning, NetworkError, NotEnoughSpaceError
from gptoss_weights.file_lock import file_lock
from gptoss_weights.hub import Progress
from gptoss_weights.hub.plan import STATE_FOLDER

REPO = "someone/tiny-oss"
WEIGHTS = "original/model.safetensors"
STALL_TIMEOUT_S = 0.5


# ------------------------------------------------------------------------------------------ resuming


@pytest.mark.parametrize("break_", ["cut", "stall"])
def test_broken_stream_goes_on_where_it_stopped(hub, download, published, tmp_path, break_):
    hub.publish(published)
    hub.breaks = iter([("whole", 0), (break_, 1000), (break_, 70_000)])
    download(hub, tmp_path / "out", timeout_s=STALL_TIMEOUT_S)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]
    assert [asked.range for asked in hub.asked_for(WEIGHTS)] == [None, "bytes=1000-", "bytes=71000-"]


def test_next_run_goes_on_where_the_last_stopped(hub, download, interrupt, partial_files, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    assert not (tmp_path / "out" / WEIGHTS).exists()
    assert [path.stat().st_size for path in partial_files(tmp_path / "out")] == [5000]
    download(hub, tmp_path / "out")
    assert [asked.range for asked in hub.asked_for(WEIGHTS)] == ["bytes=5000-"]
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]
    assert not (tmp_path / "out" / STATE_FOLDER).exists()


def test_partial_file_that_is_whole_costs_no_request(hub, download, interrupt, partial_files, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    (partial,) = partial_files(tmp_path / "out")
    partial.write_bytes(published[WEIGHTS])
    download(hub, tmp_path / "out")
    assert hub.asked_for(WEIGHTS) == []
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]


def test_server_without_ranges_sends_the_file_again(hub, download, interrupt, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    hub.knows_ranges = False
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]
    assert len(hub.asked_for(WEIGHTS)) == 1


def test_server_without_ranges_that_always_cuts_is_given_up(hub, download, patience, published, tmp_path):
    hub.publish(published)
    hub.knows_ranges = False
    hub.breaks = itertools.chain([("whole", 0)], itertools.repeat(("cut", 5000)))
    with pytest.raises(NetworkError, match=r"got no further in 3 tries.*kept: run again"):
        download(hub, tmp_path / "out")
    assert len(hub.asked_for(WEIGHTS)) == 1 + patience["retries"]


def test_slow_line_may_break_more_often_than_there_are_retries(hub, download, published, tmp_path):
    hub.publish(published)
    hub.breaks = itertools.chain([("whole", 0)], [("cut", 20_000)] * 8)
    download(hub, tmp_path / "out", retries=1)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]


def test_file_that_changed_between_runs_is_fetched_from_its_start(hub, download, interrupt, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    changed = published[WEIGHTS][:-1] + b"?"
    hub.publish(published | {WEIGHTS: changed})
    download(hub, tmp_path / "out")
    assert [asked.range for asked in hub.asked_for(WEIGHTS)] == [None]
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == changed
    assert not (tmp_path / "out" / STATE_FOLDER).exists()  # the bytes of the old file are gone


def test_damaged_partial_file_is_fetched_again_once(hub, download, interrupt, partial_files, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    (partial,) = partial_files(tmp_path / "out")
    partial.write_bytes(bytes(5000))  # as a power failure leaves it
    download(hub, tmp_path / "out")
    assert [asked.range for asked in hub.asked_for(WEIGHTS)] == ["bytes=5000-", None]
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]


def test_what_arrived_of_another_layout_is_kept(hub, download, interrupt, partial_files, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    download(hub, tmp_path / "out", layout="hf")
    assert [path.stat().st_size for path in partial_files(tmp_path / "out")] == [5000]


# ------------------------------------------------------------------------------- disk and processes


def test_disk_that_is_too_small_is_refused_before_the_start(hub, download, published, tmp_path, monkeypatch):
    hub.publish(published)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(NotEnoughSpaceError, match=r"the disk cannot hold the download; expected .* found 1000 bytes"):
        download(hub, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_disk_needs_room_only_for_what_is_missing(hub, download, interrupt, published, tmp_path, monkeypatch):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=len(published[WEIGHTS]) - 10)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10, 10))
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).is_file()


def test_disk_that_fills_up_keeps_what_has_arrived(hub, download, partial_files, published, tmp_path, monkeypatch):
    from gptoss_weights.hub.partial_file import PartialFile

    hub.publish(published)
    append = PartialFile.append

    def append_until_full(self: PartialFile, piece: bytes) -> None:
        if self.nbytes == len(published[WEIGHTS]) and self.arrived:
            raise OSError(28, "No space left on device")
        append(self, piece)

    monkeypatch.setattr(PartialFile, "append", append_until_full)
    with pytest.raises(NotEnoughSpaceError, match=r"the disk is full.*make room and run again"):
        download(hub, tmp_path / "out")
    assert len(partial_files(tmp_path / "out")) == 1


def test_output_that_is_a_file_is_refused(hub, download, published, tmp_path):
    hub.publish(published)
    (tmp_path / "out").write_text("mine")
    with pytest.raises(CheckpointError, match="the output is a file"):
        download(hub, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.filterwarnings("ignore::gptoss_weights.GptOssWarning")
def test_two_downloads_into_one_folder_take_turns(hub, download, published, tmp_path):
    hub.publish(published)
    hub.breaks = iter([("whole", 0), ("stall", 1000)])
    first = threading.Thread(target=download, args=(hub, tmp_path / "out"), kwargs={"timeout_s": STALL_TIMEOUT_S})
    first.start()
    assert hub.arrived.wait(10)
    download(hub, tmp_path / "out")
    first.join()
    assert [asked.range for asked in hub.asked_for(WEIGHTS)] == [None, "bytes=1000-"]  # the second found it done
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]
    assert not (tmp_path / "out" / STATE_FOLDER).exists()


def test_second_download_says_that_it_waits(hub, download, published, tmp_path):
    hub.publish(published)
    is_held = threading.Event()

    def hold_until_it_has_been_said() -> None:
        with file_lock(tmp_path / "out" / STATE_FOLDER / "lock"):
            is_held.set()
            deadline = time.monotonic() + 10
            while not said and time.monotonic() < deadline:
                time.sleep(0.01)

    with pytest.warns(GptOssWarning, match="another download into this folder") as said:  # noqa: PT031 - read by the holder
        threading.Thread(target=hold_until_it_has_been_said).start()
        assert is_held.wait(10)
        download(hub, tmp_path / "out")
    assert len(said) == 1


def test_progress_never_exceeds_the_total_and_ends_there(hub, download, interrupt, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    hub.knows_ranges = False
    seen: list[Progress] = []
    plan = download(hub, tmp_path / "out", on_progress=seen.append)
    assert max(step.arrived_bytes for step in seen) == seen[-1].arrived_bytes == plan.total_bytes
    assert {step.total_bytes for step in seen} == {plan.total_bytes}
    assert {step.path for step in seen} == {file.path for file in plan.files}
