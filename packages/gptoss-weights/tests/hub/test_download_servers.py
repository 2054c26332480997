"""Who may download, and what a server, or its absence, is answered with."""

import itertools

import pytest
from gptoss_weights import NetworkError
from gptoss_weights.hub import download_checkpoint

REPO = "someone/tiny-oss"
WEIGHTS = "original/model.safetensors"


# ------------------------------------------------------------------------------------ who may read


def test_redirect_to_the_storage_server_carries_no_token(hub, download, published, tmp_path):
    hub.publish(published)
    hub.repositories[REPO].readers = {"secret"}
    download(hub, tmp_path / "out", token="secret")
    at_storage = [asked for asked in hub.requests if asked.server == "storage"]
    assert at_storage
    assert not any("authorization" in asked.headers for asked in at_storage)
    assert all(asked.headers["authorization"] == "Bearer secret" for asked in hub.requests if asked.server == "hub")


def test_token_of_the_environment_opens_a_private_repository(hub, download, published, tmp_path, monkeypatch):
    hub.publish(published)
    hub.repositories[REPO].readers = {"secret"}
    monkeypatch.setenv("HF_TOKEN", "secret")
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).is_file()


def test_stored_token_opens_a_private_repository(hub, download, published, tmp_path):
    hub.publish(published)
    hub.repositories[REPO].readers = {"secret"}
    (tmp_path / "no-token").write_text("secret\n")
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).is_file()


def test_token_is_not_sent_if_none_is_wanted(hub, download, published, tmp_path, monkeypatch):
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
def test_refusal_says_what_to_do(hub, download, published, tmp_path, token, gated, words):
    hub.publish(published)
    hub.repositories[REPO].readers = {"secret"}
    hub.repositories[REPO].gated = gated
    with pytest.raises(NetworkError, match=words):
        download(hub, tmp_path / "out", token=token)
    assert not (tmp_path / "out").exists()


def test_wanting_the_stored_token_where_there_is_none(hub, download, tmp_path):
    with pytest.raises(NetworkError, match="no token is stored"):
        download(hub, tmp_path / "out", token=True)


def test_unknown_revision_is_named(hub, download, published, tmp_path):
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


def test_offline_mode_is_named(hub, download, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match="switched off by HF_HUB_OFFLINE"):
        download(hub, tmp_path / "out")
    assert hub.requests == []


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_overloaded_server_is_asked_again(hub, download, published, tmp_path, status):
    hub.publish(published)
    hub.api_statuses = iter([status])
    hub.breaks = iter([("whole", 0), ("status", status)])
    download(hub, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]


def test_server_that_stays_overloaded_is_given_up(hub, download, patience, published, tmp_path):
    hub.publish(published)
    hub.api_statuses = itertools.repeat(503)
    with pytest.raises(NetworkError, match=r"the Hub does not answer; found 127.0.0.1 answers 503"):
        download(hub, tmp_path / "out")
    assert len(hub.requests) == 1 + patience["retries"]


def test_link_to_the_storage_server_that_ran_out_is_renewed(hub, download, published, tmp_path):
    hub.publish(published)
    hub.breaks = iter([("whole", 0), ("cut", 1000), ("status", 403)])
    download(hub, tmp_path / "out")
    assert [asked.range for asked in hub.asked_for(WEIGHTS)] == [None, "bytes=1000-", "bytes=1000-"]


@pytest.mark.parametrize("answer", [b"<html>Log in</html>", b"[]", b'{"siblings": [{}]}'])
def test_answer_that_is_no_list_is_explained(hub, download, published, tmp_path, answer):
    hub.publish(published)
    hub.api_answer = answer
    with pytest.raises(NetworkError, match=r"does not speak the Hub's protocol.*Check HF_ENDPOINT"):
        download(hub, tmp_path / "out")
