"""Xet storage: when it is chosen, that its files arrive whole, and what happens where it fails."""

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import pytest
from gptoss_weights import NetworkError
from gptoss_weights.hub import download_checkpoint
from gptoss_weights.hub.connection import HubConnection
from gptoss_weights.hub.content_hash import ContentHash
from gptoss_weights.hub.listing import RemoteFile
from gptoss_weights.hub.xet_source import find_in_xet
from huggingface_hub import constants

REPO = "someone/tiny-oss"
WEIGHTS = "original/model.safetensors"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hf_xet") is None, reason="hf_xet is not made for this machine"
)


def download(hub: Any, output: Path, **options: Any) -> Any:
    patience = {"timeout_s": 0.3, "retries": 1, "backoff_s": 0.01}
    return download_checkpoint(REPO, output=output, endpoint=hub.endpoint, **(patience | options))


@pytest.fixture
def stored(hub: Any, published: dict[str, bytes], tmp_path: Path) -> Any:
    """The Hub, with the weights of `original/` in Xet storage: hf_xet's own, in a folder of this machine."""
    import hf_xet

    address = f"local://{tmp_path / 'cas'}"
    with hf_xet.XetSession().new_upload_commit(endpoint=address) as commit:
        upload = commit.start_upload_bytes(published[WEIGHTS])
    hub.publish(published)
    hub.xet = {WEIGHTS: (upload.result().xet_info.hash, address)}
    return hub


def found(hub: Any, path: str, content: str) -> Any:
    connection = HubConnection.open(
        REPO, revision="main", endpoint=hub.endpoint, token=None, timeout_s=0.3, retries=0, backoff_s=0.01
    )
    return find_in_xet(connection, RemoteFile(path, 1, ContentHash.parse(content)))


def test_file_in_xet_storage_is_found_there(stored):
    where = found(stored, WEIGHTS, "0" * 64)
    assert where.file_hash == stored.xet[WEIGHTS][0]
    assert where.refresh_route.startswith(stored.endpoint)


def test_file_that_the_hub_does_not_offer_there_comes_over_http(stored):
    assert found(stored, "tokenizer.json", "0" * 64) is None


def test_small_file_comes_over_http_unasked(stored):
    assert found(stored, WEIGHTS, "0" * 40) is None
    assert stored.requests == []


def test_disabled_hf_xet_is_not_used(stored, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    assert found(stored, WEIGHTS, "0" * 64) is None


def test_missing_hf_xet_is_not_used(stored, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert found(stored, WEIGHTS, "0" * 64) is None


def test_route_to_another_server_gets_no_token(stored, monkeypatch):
    monkeypatch.setattr(stored, "xet_server", stored.storage)
    assert found(stored, WEIGHTS, "0" * 64) is None


def test_xet_storage_brings_the_file(stored, published, tmp_path):
    download(stored, tmp_path / "out", token="secret")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]
    assert stored.asked_for(WEIGHTS) == []
    (asked,) = [asked for asked in stored.requests if "xet-read-token" in asked.path]
    assert asked.headers["authorization"] == "Bearer secret"


def test_xet_storage_goes_on_where_http_stopped(stored, published, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    stored.breaks = itertools.chain([("whole", 0)], itertools.repeat(("cut", 5000)))
    with pytest.raises(NetworkError):
        download(stored, tmp_path / "out", retries=0)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    stored.requests.clear()
    plan = download(stored, tmp_path / "out")
    assert plan.missing_bytes == len(published[WEIGHTS]) - 5000
    assert stored.asked_for(WEIGHTS) == []
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]


def test_http_steps_in_where_xet_storage_lacks_the_file(stored, published, tmp_path):
    stored.xet = {WEIGHTS: ("0" * 64, stored.xet[WEIGHTS][1])}
    download(stored, tmp_path / "out", retries=0)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]
    assert len(stored.asked_for(WEIGHTS)) == 1


def test_http_steps_in_where_xet_storage_is_silent(stored, published, tmp_path):
    stored.xet = {WEIGHTS: (stored.xet[WEIGHTS][0], f"{stored.storage}/silent")}
    download(stored, tmp_path / "out", retries=0, timeout_s=0.1)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]
    assert any(asked.path.startswith("/silent/") for asked in stored.requests)
    assert len(stored.asked_for(WEIGHTS)) == 1
