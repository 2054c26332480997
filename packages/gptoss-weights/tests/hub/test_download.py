"""download_checkpoint against a Hub on this machine: the right files, and what they must be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gptoss_weights import CheckpointError, NetworkError, open_checkpoint
from gptoss_weights.hub import download_checkpoint

REPO = "someone/tiny-oss"
WEIGHTS = "original/model.safetensors"
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


# ------------------------------------------------------------------------------------- what is fetched


def test_original_brings_its_weights_and_what_travels_along(hub, download, files_below, published, tmp_path):
    hub.publish(published)
    plan = download(hub, tmp_path / "out")
    expected = SIDE | {"original/config.json", "original/dtypes.json", WEIGHTS}
    assert files_below(tmp_path / "out") == {path: published[path] for path in expected}
    checkpoint = open_checkpoint(plan.checkpoint)
    assert checkpoint.format == "openai"
    assert {"tokenizer.json", "LICENSE"} <= set(checkpoint.side_files)


def test_hf_brings_its_shards_index_and_what_travels_along(hub, download, files_below, published, tmp_path):
    hub.publish(published)
    plan = download(hub, tmp_path / "out", layout="hf")
    found = files_below(tmp_path / "out")
    assert found == {path: published[path] for path in found}
    assert set(found) - SIDE == {
        path for path in published if path.startswith("model") and path.endswith((".safetensors", ".index.json"))
    }
    checkpoint = open_checkpoint(plan.checkpoint)
    assert checkpoint.format == "hf"


def test_both_layouts_are_the_same_weights(hub, download, published, tmp_path):
    hub.publish(published)
    original = open_checkpoint(download(hub, tmp_path / "a").checkpoint)
    other = open_checkpoint(download(hub, tmp_path / "b", layout="hf").checkpoint)
    name = "model.layers.3.self_attn.k_proj.weight"
    np.testing.assert_array_equal(original.read_array(name), other.read_array(name))


def test_all_mirrors_the_repository(hub, download, files_below, published, tmp_path):
    hub.publish(published)
    download(hub, tmp_path / "out", layout="all")
    assert files_below(tmp_path / "out") == published


def test_output_is_by_default_a_folder_of_the_repositorys_name(hub, patience, published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.publish(published)
    plan = download_checkpoint(REPO, endpoint=hub.endpoint, **patience)
    assert plan.output == Path("tiny-oss")
    assert (tmp_path / "tiny-oss" / WEIGHTS).is_file()


def test_revision_is_what_is_fetched_and_pinned_to_its_commit(hub, download, published, tmp_path):
    hub.publish(published)
    commit = hub.publish(published | {"LICENSE": b"another"}, branch="refs/pr/4")
    plan = download(hub, tmp_path / "out", revision="refs/pr/4")
    assert plan.commit == commit
    assert (tmp_path / "out" / "LICENSE").read_bytes() == b"another"
    assert all(f"/resolve/{commit}/" in asked.path for asked in hub.requests if "/resolve/" in asked.path)


def test_dry_run_says_what_is_missing_and_writes_nothing(hub, download, published, tmp_path):
    hub.publish(published)
    plan = download(hub, tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    assert plan.missing_bytes == plan.total_bytes == sum(len(published[file.path]) for file in plan.files)
    assert plan.total_bytes + plan.left_out_bytes == sum(map(len, published.values()))
    assert [asked.path for asked in hub.requests] == [f"/api/models/{REPO}"]


def test_dry_run_counts_what_has_arrived(hub, download, interrupt, published, tmp_path):
    hub.publish(published)
    interrupt(hub, tmp_path / "out", after=5000)
    plan = download(hub, tmp_path / "out", dry_run=True)
    assert plan.missing_bytes == len(published[WEIGHTS]) - 5000


def test_repository_without_the_layout_is_told_which_it_has(hub, download, published, tmp_path):
    hub.publish({path: content for path, content in published.items() if not path.startswith("original/")})
    with pytest.raises(CheckpointError, match=r"no weights in layout original.*Ask for layout hf"):
        download(hub, tmp_path / "out")


@pytest.mark.parametrize("path", ["../evil.json", "/etc/evil", "a/../../evil", "a//b", "C:evil", "a\\b"])
def test_path_that_leads_out_of_the_folder_is_refused(hub, download, published, tmp_path, path):
    hub.publish(published | {path: b"evil"})
    with pytest.raises(CheckpointError, match="could lead out of its folder"):
        download(hub, tmp_path / "out", layout="all")
    assert not (tmp_path / "out").exists()


def test_list_without_hashes_is_completed_by_asking_for_each_file(hub, download, published, tmp_path):
    hub.publish(published)
    hub.states_hashes = False
    hub.corrupt = {WEIGHTS}
    with pytest.raises(NetworkError, match=f"{WEIGHTS}: the content that the server sent is not the one"):
        download(hub, tmp_path / "out")
    hub.corrupt = set()
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]


# --------------------------------------------------------------------------------------- verifying


def test_wrong_content_is_dropped_and_never_named(hub, download, partial_files, published, tmp_path):
    hub.publish(published)
    hub.corrupt = {WEIGHTS}
    with pytest.raises(NetworkError, match=f"{WEIGHTS}: the content .* expected sha256 [0-9a-f]+; found [0-9a-f]+"):
        download(hub, tmp_path / "out")
    assert not (tmp_path / "out" / WEIGHTS).exists()
    assert partial_files(tmp_path / "out") == []
    assert len(hub.asked_for(WEIGHTS)) == 1


def test_wrong_content_of_a_small_file_is_found_by_its_git_id(hub, download, published, tmp_path):
    hub.publish(published)
    hub.corrupt = {"generation_config.json"}
    with pytest.raises(NetworkError, match=r"generation_config.json: the content .* git-sha1"):
        download(hub, tmp_path / "out")
    assert not (tmp_path / "out" / "generation_config.json").exists()


def test_second_run_fetches_nothing(hub, download, published, tmp_path):
    hub.publish(published)
    download(hub, tmp_path / "out")
    hub.requests.clear()
    plan = download(hub, tmp_path / "out")
    assert plan.missing_bytes == 0
    assert [asked for asked in hub.requests if "/resolve/" in asked.path] == []


def test_second_run_finds_and_mends_a_flipped_bit(hub, download, published, tmp_path):
    hub.publish(published)
    download(hub, tmp_path / "out")
    damaged = bytearray(published[WEIGHTS])
    damaged[12345] ^= 4
    (tmp_path / "out" / WEIGHTS).write_bytes(damaged)
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]


def test_login_page_instead_of_a_file_is_refused_by_its_size(hub, download, published, tmp_path):
    hub.publish(published)
    hub.login_page = b"<html>Please pay for the wifi</html>"
    with pytest.raises(NetworkError, match=r"another size .*text/html.*proxy or login page"):
        download(hub, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_server_whose_file_is_not_the_listed_one_is_refused_before_it_sends_it(
    hub, download, published, tmp_path, monkeypatch
):
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
