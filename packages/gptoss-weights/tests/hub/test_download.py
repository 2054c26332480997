"""download_checkpoint against a Hub on this machine: the right files, whole, whatever happens on the way."""

import itertools
import shutil
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gptoss_weights import CheckpointError, GptOssWarning, NetworkError, NotEnoughSpaceError, open_checkpoint
from gptoss_weights.hub import Progress, download_checkpoint
from gptoss_weights.hub.plan import STATE_FOLDER

REPO = "someone/tiny-oss"
WEIGHTS = "original/model.safetensors"
PATIENCE: dict[str, Any] = {"timeout_s": 0.3, "retries": 2, "backoff_s": 0.01}
SIDE = {
    "LICENSE",
    "USAGE_POLICY",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def download(hub: Any, output: Path, **options: Any) -> Any:
    return download_checkpoint(REPO, output=output, endpoint=hub.endpoint, **(PATIENCE | options))


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def partial_files(output: Path) -> list[Path]:
    return sorted((output / STATE_FOLDER).glob("*.incomplete"))


def interrupt(hub: Any, output: Path, after: int) -> None:
    """Leaves a download behind of which that many bytes of the weights have arrived."""
    hub.breaks = itertools.chain([("whole", 0)], itertools.repeat(("cut", after)))  # the tokenizer comes first
    with pytest.raises(NetworkError):
        download(hub, output, retries=0)
    hub.breaks = iter(())
    hub.requests.clear()


# ------------------------------------------------------------------------------------- what is fetched


def test_original_brings_its_weights_and_what_travels_along(hub, published, tmp_path):
    hub.publish(published)
    plan = download(hub, tmp_path / "out")
    expected = SIDE | {"original/config.json", "original/dtypes.json", WEIGHTS}
    assert files_below(tmp_path / "out") == {path: published[path] for path in expected}
    checkpoint = open_checkpoint(plan.checkpoint)
    assert checkpoint.format == "openai"
    assert {"tokenizer.json", "LICENSE"} <= set(checkpoint.side_files)


def test_hf_brings_its_shards_index_and_what_travels_along(hub, published, tmp_path):
    hub.publish(published)
    plan = download(hub, tmp_path / "out", layout="hf")
    found = files_below(tmp_path / "out")
    assert found == {path: published[path] for path in found}
    assert set(found) - SIDE == {
        path for path in published if path.startswith("model") and path.endswith((".safetensors", ".index.json"))
    }
    checkpoint = open_checkpoint(plan.checkpoint)
    assert checkpoint.format == "hf"


def test_both_layouts_are_the_same_weights(hub, published, tmp_path):
    hub.publish(published)
    original = open_checkpoint(download(hub, tmp_path / "a").checkpoint)
    other = open_checkpoint(download(hub, tmp_path / "b", layout="hf").checkpoint)
    name = "model.layers.3.self_attn.k_proj.weight"
    np.testing.assert_array_equal(original.read_array(name), other.read_array(name))


def test_all_mirrors_the_repository(hub, published, tmp_path):
    hub.publish(published)
    download(hub, tmp_path / "out", layout="all")
    assert files_below(tmp_path / "out") == published


def test_output_is_by_default_a_folder_of_the_repositorys_name(hub, published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.publish(published)
    plan = download_checkpoint(REPO, endpoint=hub.endpoint, **PATIENCE)
    assert plan.output == Path("tiny-oss")
    assert (tmp_path / "tiny-oss" / WEIGHTS).is_file()


def test_revision_is_what_is_fetched_and_pinned_to_its_commit(hub, published, tmp_path):
    hub.publish(published)
    commit = hub.publish(published | {"LICENSE": b"another"}, branch="refs/pr/4")
    plan = download(hub, tmp_path / "out", revision="refs/pr/4")
    assert plan.commit == commit
    assert (tmp_path / "out" / "LICENSE").read_bytes() == b"another"
    assert all(f"/resolve/{commit}/" in asked.path for asked in hub.requests if "/resolve/" in asked.path)


def test_dry_run_says_what_is_missing_and_writes_nothing(hub, published, tmp_path):
    hub.publish(published)
    plan = download(hub, tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    assert plan.missing_bytes == plan.total_bytes == sum(len(published[file.path]) for file in plan.files)
    assert plan.total_bytes + plan.left_out_bytes == sum(map(len, published.values()))
    assert [asked.path for asked in hub.requests] == [f"/api/models/{REPO}"]


def test_dry_run_counts_what_has_arrived(hub, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    plan = download(hub, tmp_path / "out", dry_run=True)
    assert plan.missing_bytes == len(published[WEIGHTS]) - 5000


def test_repository_without_the_layout_is_told_which_it_has(hub, published, tmp_path):
    hub.publish({path: content for path, content in published.items() if not path.startswith("original/")})
    with pytest.raises(CheckpointError, match=r"no weights in layout original.*Ask for layout hf"):
        download(hub, tmp_path / "out")


@pytest.mark.parametrize("path", ["../evil.json", "/etc/evil", "a/../../evil", "a//b", "C:evil", "a\\b"])
def test_path_that_leads_out_of_the_folder_is_refused(hub, published, tmp_path, path):
    hub.publish(published | {path: b"evil"})
    with pytest.raises(CheckpointError, match="could lead out of its folder"):
        download(hub, tmp_path / "out", layout="all")
    assert not (tmp_path / "out").exists()


def test_list_without_hashes_is_completed_by_asking_for_each_file(hub, published, tmp_path):
    hub.publish(published)
    hub.states_hashes = False
    hub.corrupt = {WEIGHTS}
    with pytest.raises(NetworkError, match=f"{WEIGHTS}: the content that the server sent is not the one"):
        download(hub, tmp_path / "out")
    hub.corrupt = set()
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]


# ------------------------------------------------------------------------------------------ resuming


@pytest.mark.parametrize("break_", ["cut", "stall"])
def test_broken_stream_goes_on_where_it_stopped(hub, published, tmp_path, break_):
    hub.publish(published)
    hub.breaks = iter([("whole", 0), (break_, 1000), (break_, 70_000)])
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]
    assert [asked.range for asked in hub.asked_for(WEIGHTS)] == [None, "bytes=1000-", "bytes=71000-"]


def test_next_run_goes_on_where_the_last_stopped(hub, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    assert not (tmp_path / "out" / WEIGHTS).exists()
    assert [path.stat().st_size for path in partial_files(tmp_path / "out")] == [5000]
    download(hub, tmp_path / "out")
    assert [asked.range for asked in hub.asked_for(WEIGHTS)] == ["bytes=5000-"]
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]
    assert not (tmp_path / "out" / STATE_FOLDER).exists()


def test_partial_file_that_is_whole_costs_no_request(hub, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    (partial,) = partial_files(tmp_path / "out")
    partial.write_bytes(published[WEIGHTS])
    download(hub, tmp_path / "out")
    assert hub.asked_for(WEIGHTS) == []
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]


def test_server_without_ranges_sends_the_file_again(hub, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    hub.knows_ranges = False
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]
    assert len(hub.asked_for(WEIGHTS)) == 1


def test_server_without_ranges_that_always_cuts_is_given_up(hub, published, tmp_path):
    hub.publish(published)
    hub.knows_ranges = False
    hub.breaks = itertools.chain([("whole", 0)], itertools.repeat(("cut", 5000)))
    with pytest.raises(NetworkError, match=r"got no further in 3 tries.*kept: run again"):
        download(hub, tmp_path / "out")
    assert len(hub.asked_for(WEIGHTS)) == 1 + PATIENCE["retries"]


def test_slow_line_may_break_more_often_than_there_are_retries(hub, published, tmp_path):
    hub.publish(published)
    hub.breaks = itertools.chain([("whole", 0)], [("cut", 20_000)] * 8)
    download(hub, tmp_path / "out", retries=1)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]


def test_file_that_changed_between_runs_is_fetched_from_its_start(hub, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    changed = published[WEIGHTS][:-1] + b"?"
    hub.publish(published | {WEIGHTS: changed})
    download(hub, tmp_path / "out")
    assert [asked.range for asked in hub.asked_for(WEIGHTS)] == [None]
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == changed
    assert not (tmp_path / "out" / STATE_FOLDER).exists()  # the bytes of the old file are gone


def test_damaged_partial_file_is_fetched_again_once(hub, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    (partial,) = partial_files(tmp_path / "out")
    partial.write_bytes(bytes(5000))  # as a power failure leaves it
    download(hub, tmp_path / "out")
    assert [asked.range for asked in hub.asked_for(WEIGHTS)] == ["bytes=5000-", None]
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]


def test_what_arrived_of_another_layout_is_kept(hub, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    download(hub, tmp_path / "out", layout="hf")
    assert [path.stat().st_size for path in partial_files(tmp_path / "out")] == [5000]


# --------------------------------------------------------------------------------------- verifying


def test_wrong_content_is_dropped_and_never_named(hub, published, tmp_path):
    hub.publish(published)
    hub.corrupt = {WEIGHTS}
    with pytest.raises(NetworkError, match=f"{WEIGHTS}: the content .* expected sha256 [0-9a-f]+; found [0-9a-f]+"):
        download(hub, tmp_path / "out")
    assert not (tmp_path / "out" / WEIGHTS).exists()
    assert partial_files(tmp_path / "out") == []
    assert len(hub.asked_for(WEIGHTS)) == 1


def test_wrong_content_of_a_small_file_is_found_by_its_git_id(hub, published, tmp_path):
    hub.publish(published)
    hub.corrupt = {"generation_config.json"}
    with pytest.raises(NetworkError, match=r"generation_config.json: the content .* git-sha1"):
        download(hub, tmp_path / "out")
    assert not (tmp_path / "out" / "generation_config.json").exists()


def test_second_run_fetches_nothing(hub, published, tmp_path):
    hub.publish(published)
    download(hub, tmp_path / "out")
    hub.requests.clear()
    plan = download(hub, tmp_path / "out")
    assert plan.missing_bytes == 0
    assert [asked for asked in hub.requests if "/resolve/" in asked.path] == []


def test_second_run_finds_and_mends_a_flipped_bit(hub, published, tmp_path):
    hub.publish(published)
    download(hub, tmp_path / "out")
    damaged = bytearray(published[WEIGHTS])
    damaged[12345] ^= 4
    (tmp_path / "out" / WEIGHTS).write_bytes(damaged)
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]


def test_login_page_instead_of_a_file_is_refused_by_its_size(hub, published, tmp_path):
    hub.publish(published)
    hub.login_page = b"<html>Please pay for the wifi</html>"
    with pytest.raises(NetworkError, match=r"another size .*text/html.*proxy or login page"):
        download(hub, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_server_whose_file_is_not_the_listed_one_is_refused_before_it_sends_it(hub, published, tmp_path, monkeypatch):
    from gptoss_weights.hub import download as module

    commit = hub.publish(published)
    listing = module.list_files

    def list_then_change(*arguments: Any) -> Any:
        listed = listing(*arguments)
        hub.repositories[REPO].commits[commit] = published | {WEIGHTS: published[WEIGHTS][:-1] + b"?"}
        return listed

    monkeypatch.setattr(module, "list_files", list_then_change)
    with pytest.raises(NetworkError, match="not the one that the Hub has just listed"):
        download(hub, tmp_path / "out")


# ------------------------------------------------------------------------------------ who may read


def test_redirect_to_the_storage_server_carries_no_token(hub, published, tmp_path):
    hub.publish(published)
    hub.repositories[REPO].readers = {"secret"}
    download(hub, tmp_path / "out", token="secret")
    at_storage = [asked for asked in hub.requests if asked.server == "storage"]
    assert at_storage
    assert not any("authorization" in asked.headers for asked in at_storage)
    assert all(asked.headers["authorization"] == "Bearer secret" for asked in hub.requests if asked.server == "hub")


def test_token_of_the_environment_opens_a_private_repository(hub, published, tmp_path, monkeypatch):
    hub.publish(published)
    hub.repositories[REPO].readers = {"secret"}
    monkeypatch.setenv("HF_TOKEN", "secret")
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).is_file()


def test_stored_token_opens_a_private_repository(hub, published, tmp_path):
    hub.publish(published)
    hub.repositories[REPO].readers = {"secret"}
    (tmp_path / "no-token").write_text("secret\n")
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).is_file()


def test_token_is_not_sent_if_none_is_wanted(hub, published, tmp_path, monkeypatch):
    hub.publish(published)
    hub.states_hashes = False
    monkeypatch.setenv("HF_TOKEN", "secret")
    download(hub, tmp_path / "out", token=False)
    assert not any("authorization" in asked.headers for asked in hub.requests)


@pytest.mark.parametrize(
    ("token", "gated", "words"),
    [
        (None, False, r"no such repository, or it is private; found status 401.*hf auth login.*HF_TOKEN"),
        ("stranger", False, r"no such repository, or it is private; found status 404.*the token that was sent may"),
        (None, True, r"is gated; found status 401. Accept its terms on http://127.*hf auth login"),
        ("stranger", True, r"is gated; found status 403. Ask for access on http://127.*/someone/tiny-oss"),
        ("expired", False, r"found status 401. The token that was sent is not valid"),
    ],
)
def test_refusal_says_what_to_do(hub, published, tmp_path, token, gated, words):
    hub.publish(published)
    hub.repositories[REPO].readers = {"secret"}
    hub.repositories[REPO].gated = gated
    with pytest.raises(NetworkError, match=words):
        download(hub, tmp_path / "out", token=token)
    assert not (tmp_path / "out").exists()


def test_wanting_the_stored_token_where_there_is_none(hub, tmp_path):
    with pytest.raises(NetworkError, match="no token is stored"):
        download(hub, tmp_path / "out", token=True)


def test_unknown_revision_is_named(hub, published, tmp_path):
    hub.publish(published)
    with pytest.raises(NetworkError, match="someone/tiny-oss: the repository has no such revision; found v9"):
        download(hub, tmp_path / "out", revision="v9")


def test_name_that_is_no_repositorys_is_a_bad_argument(hub, tmp_path):
    with pytest.raises(ValueError, match="a/b/c"):
        download_checkpoint("a/b/c", endpoint=hub.endpoint, output=tmp_path / "out")


# ------------------------------------------------------------------------------- servers and networks


def test_server_that_is_down_is_named_at_once(tmp_path):
    with pytest.raises(NetworkError, match=r"http://127.0.0.1:9: the Hub cannot be reached.*Check the network"):
        download_checkpoint(REPO, endpoint="http://127.0.0.1:9", output=tmp_path / "out", token=False)


def test_offline_mode_is_named(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match="switched off by HF_HUB_OFFLINE"):
        download(hub, tmp_path / "out")
    assert hub.requests == []


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_overloaded_server_is_asked_again(hub, published, tmp_path, status):
    hub.publish(published)
    hub.api_statuses = iter([status])
    hub.breaks = iter([("whole", 0), ("status", status)])
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]


def test_server_that_stays_overloaded_is_given_up(hub, published, tmp_path):
    hub.publish(published)
    hub.api_statuses = itertools.repeat(503)
    with pytest.raises(NetworkError, match=r"the Hub does not answer; found 127.0.0.1 answers 503"):
        download(hub, tmp_path / "out")
    assert len(hub.requests) == 1 + PATIENCE["retries"]


def test_link_to_the_storage_server_that_ran_out_is_renewed(hub, published, tmp_path):
    hub.publish(published)
    hub.breaks = iter([("whole", 0), ("cut", 1000), ("status", 403)])
    download(hub, tmp_path / "out")
    assert [asked.range for asked in hub.asked_for(WEIGHTS)] == [None, "bytes=1000-", "bytes=1000-"]


@pytest.mark.parametrize("answer", [b"<html>Log in</html>", b"[]", b'{"siblings": [{}]}'])
def test_answer_that_is_no_list_is_explained(hub, published, tmp_path, answer):
    hub.publish(published)
    hub.api_answer = answer
    with pytest.raises(NetworkError, match=r"does not speak the Hub's protocol.*Check HF_ENDPOINT"):
        download(hub, tmp_path / "out")


# ------------------------------------------------------------------------------- disk and processes


def test_disk_that_is_too_small_is_refused_before_the_start(hub, published, tmp_path, monkeypatch):
    hub.publish(published)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(NotEnoughSpaceError, match=r"the disk cannot hold the download; expected .* found 1000 bytes"):
        download(hub, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_disk_needs_room_only_for_what_is_missing(hub, published, tmp_path, monkeypatch):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=len(published[WEIGHTS]) - 10)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10, 10))
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).is_file()


def test_disk_that_fills_up_keeps_what_has_arrived(hub, published, tmp_path, monkeypatch):
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


def test_output_that_is_a_file_is_refused(hub, published, tmp_path):
    hub.publish(published)
    (tmp_path / "out").write_text("mine")
    with pytest.raises(CheckpointError, match="the output is a file"):
        download(hub, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.filterwarnings("ignore::gptoss_weights.GptOssWarning")
def test_two_downloads_into_one_folder_take_turns(hub, published, tmp_path):
    hub.publish(published)
    hub.breaks = iter([("whole", 0), ("stall", 1000)])
    first = threading.Thread(target=download, args=(hub, tmp_path / "out"))
    first.start()
    assert hub.arrived.wait(10)
    download(hub, tmp_path / "out")
    first.join()
    assert [asked.range for asked in hub.asked_for(WEIGHTS)] == [None, "bytes=1000-"]  # the second found it done
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]
    assert not (tmp_path / "out" / STATE_FOLDER).exists()


def test_second_download_says_that_it_waits(hub, published, tmp_path):
    hub.publish(published)
    hub.breaks = iter([("whole", 0), ("stall", 1000)])
    first = threading.Thread(target=download, args=(hub, tmp_path / "out"))
    first.start()
    assert hub.arrived.wait(10)
    with pytest.warns(GptOssWarning, match="another download into this folder is running"):
        download(hub, tmp_path / "out")
    first.join()


def test_progress_never_exceeds_the_total_and_ends_there(hub, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    hub.knows_ranges = False
    seen: list[Progress] = []
    plan = download(hub, tmp_path / "out", on_progress=seen.append)
    assert max(step.arrived_bytes for step in seen) == seen[-1].arrived_bytes == plan.total_bytes
    assert {step.total_bytes for step in seen} == {plan.total_bytes}
    assert {step.path for step in seen} == {file.path for file in plan.files}
