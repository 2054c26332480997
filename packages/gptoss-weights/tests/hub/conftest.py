"""A server on this machine that speaks the Hub's protocol, and fails on request."""

import dataclasses
import hashlib
import http.server
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from gptoss_weights import NetworkError
from gptoss_weights.hub import download_checkpoint
from gptoss_weights.hub.plan import STATE_FOLDER
from gptoss_weights.testing import write_tiny_checkpoint
from huggingface_hub import constants
from huggingface_hub.utils import close_session

REPO = "someone/tiny-oss"
STALL_S = 20.0  # longer than any patience in these tests


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request as the server saw it."""

    server: str
    method: str
    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


@dataclasses.dataclass
class Repository:
    """Files by revision, and who may read them."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    readers: set[str] | None = None  # tokens; None: everybody
    gated: bool = False

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = self.branches.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


class FakeHub:
    """The Hub and its storage server: two ports, one content.

    Attributes:
        breaks: What happens to the next large files that are sent, one after the other, and none after
            the last: ("cut", bytes) closes the connection, ("stall", bytes) falls silent after that many,
            ("status", code) answers with an error, ("whole", 0) with the file.
        corrupt: Paths whose bytes are not those that are listed.
        knows_ranges: Whether `Range` is obeyed.
        states_hashes: Whether the list of files has sizes and hashes.
        login_page: A page that stands in for every file.
        api_answer: What stands in for the list of files.
        api_statuses: What the API answers before it answers properly.
        xet: Path → (hash, address of the storage) of what lies in Xet storage.
        xet_server: Who hands out the tokens for it.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Asked] = []
        self.breaks: Iterator[tuple[str, int]] = iter(())
        self.corrupt: set[str] = set()
        self.knows_ranges = True
        self.states_hashes = True
        self.login_page: bytes | None = None
        self.api_answer: bytes | None = None
        self.api_statuses: Iterator[int] = iter(())
        self.xet: dict[str, tuple[str, str]] = {}
        self.arrived = threading.Event()  # set whenever a large file falls silent
        self.closing = threading.Event()
        self._servers = [self._serve("hub"), self._serve("storage")]
        self.endpoint, self.storage = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        self.xet_server = self.endpoint

    def _serve(self, name: str) -> http.server.ThreadingHTTPServer:
        handler = type(f"{name}_handler", (_Handler,), {"hub": self, "name": name})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def close(self) -> None:
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def publish(self, files: dict[str, bytes], repo: str = REPO, branch: str = "main") -> str:
        """Makes a commit and moves the branch to it."""
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        repository = self.repositories.setdefault(repo, Repository({}, {}))
        repository.commits[commit] = files
        repository.branches[branch] = commit
        return commit

    def asked_for(self, path: str, method: str = "GET", server: str | None = None) -> list[Asked]:
        return [
            asked
            for asked in self.requests
            if asked.method == method and asked.path.endswith(path) and server in (None, asked.server)
        ]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each small answer takes 40 ms
    hub: FakeHub
    name: str

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append(Asked(self.name, self.command, unquote(url.path), headers))
        if url.path.startswith("/silent/"):
            self.hub.closing.wait(STALL_S)
        elif self.name == "storage":
            _, _, path, digest = url.path.split("/", 3)
            content = next(
                files[unquote(path)]
                for repository in self.hub.repositories.values()
                for files in repository.commits.values()
                if unquote(path) in files and hashlib.sha256(files[unquote(path)]).hexdigest() == digest
            )
            self._send_content(unquote(path), content, {"ETag": '"of-the-storage"'})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/xet-read-token/.+", url.path):
            self._send_xet_token()
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/([^/]+))?", url.path):
            self._send_info(match[1], unquote(match[2] or "main"), parse_qs(url.query))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", url.path):
            self._send_file(match[1], unquote(match[2]), unquote(match[3]))
        else:
            self._refuse(404, "RepoNotFound")

    def _repository(self, name: str, *, for_files: bool) -> Repository | None:
        """The repository, or None once the refusal has been sent."""
        repository = self.hub.repositories.get(name)
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if token == "expired":
            self._refuse(401, None, "Invalid credentials in Authorization header")
        elif repository is None:
            self._refuse(404 if token else 401, "RepoNotFound")
        elif repository.readers is not None and token not in repository.readers:
            if not repository.gated:
                self._refuse(404 if token else 401, "RepoNotFound")
            elif for_files:
                self._refuse(403 if token else 401, "GatedRepo", "Access to this model is restricted")
            else:
                return repository
        else:
            return repository
        return None

    def _send_info(self, name: str, revision: str, query: dict[str, list[str]]) -> None:
        if (status := next(self.hub.api_statuses, None)) is not None:
            return self._refuse(status, None)
        if self.hub.api_answer is not None:
            return self._send(200, self.hub.api_answer)
        if (repository := self._repository(name, for_files=False)) is None:
            return None
        if (found := repository.files(revision)) is None:
            return self._refuse(404, "RevisionNotFound")
        commit, files = found
        with_sizes = self.hub.states_hashes and "blobs" in query
        siblings = [{"rfilename": path} | (_metadata(path, files[path]) if with_sizes else {}) for path in files]
        return self._send(200, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())

    def _send_file(self, name: str, revision: str, path: str) -> None:
        if (repository := self._repository(name, for_files=True)) is None:
            return None
        if self.hub.login_page is not None:
            return self._send(200, self.hub.login_page, {"Content-Type": "text/html"})
        found = repository.files(revision)
        if found is None or path not in found[1]:
            return self._refuse(404, "EntryNotFound")
        content = found[1][path]
        headers = {"X-Repo-Commit": found[0]}
        if not _is_large(path):
            return self._send_content(path, content, headers | {"ETag": f'"{git_sha1(content)}"'})
        digest = hashlib.sha256(content).hexdigest()
        headers |= {
            "Location": f"{self.hub.storage}/content/{path.replace('/', '%2F')}/{digest}",
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(content)),
        }
        if path in self.hub.xet:
            headers["X-Xet-Hash"] = self.hub.xet[path][0]
            headers["Link"] = f'<{self.hub.xet_server}/api/models/{name}/xet-read-token/{found[0]}>; rel="xet-auth"'
        return self._send(302, b"", headers)

    def _send_xet_token(self) -> None:
        addresses = {address for _, address in self.hub.xet.values()}
        access = {"casUrl": addresses.pop(), "accessToken": "xet-token", "exp": int(time.time()) + 3600}
        self._send(200, json.dumps(access).encode())

    def _send_content(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        what, after = ("whole", 0)
        if _is_large(path) and self.command == "GET":
            what, after = next(self.hub.breaks, ("whole", 0))
        if what == "status":
            return self._refuse(after, None, retry_after="0")
        if path in self.hub.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        status, start = 200, 0
        if self.hub.knows_ranges and (match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            status, start = 206, int(match[1])
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        if start >= len(content):
            return self._refuse(416, None)
        end = start + after if what != "whole" else len(content)
        self._send(status, content[start:end], headers, length=len(content) - start)
        if what == "stall":
            self.wfile.flush()
            self.hub.arrived.set()
            self.hub.closing.wait(STALL_S)
        if what != "whole":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        return None

    def _send(self, status: int, body: bytes, headers: Iterable = (), *, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(
        self, status: int, code: str | None, message: str | None = None, *, retry_after: str | None = None
    ) -> None:
        named = {"X-Error-Code": code, "X-Error-Message": message, "Retry-After": retry_after}
        self._send(status, b"", {name: value for name, value in named.items() if value is not None})


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin", "tokenizer.json"))


def _metadata(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"size": len(content), "blobId": git_sha1(content)}
    if _is_large(path):
        entry["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 134}
    return entry


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A server with nothing on it; no token is stored, none is in the environment."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    server = FakeHub()
    yield server
    server.close()
    close_session()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a repository as OpenAI publishes them: the same weights three times, and what travels along."""
    folder = tmp_path_factory.mktemp("published") / "tiny"
    write_tiny_checkpoint(folder, format="hf", max_shard_bytes=150_000)
    write_tiny_checkpoint(folder / "original", format="openai")
    for manifest in [folder / "manifest.json", folder / "original" / "manifest.json"]:
        manifest.unlink()  # OpenAI publishes none
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return files | {
        ".gitattributes": b"*.safetensors filter=lfs\n",
        "LICENSE": b"Apache License 2.0\n",
        "README.md": b"# tiny\n",
        "USAGE_POLICY": b"Be good.\n",
        "chat_template.jinja": b"{{ messages }}\n",
        "generation_config.json": b'{"eos_token_id": 3}',
        "metal/model.bin": bytes(5000),
        "special_tokens_map.json": b"{}",
        "tokenizer.json": b'{"model": {}}' * 50,
        "tokenizer_config.json": b"{}",
    }


@pytest.fixture(scope="session")
def patience() -> dict[str, Any]:
    """How long tests wait for a server, and how often they ask again."""
    return {"timeout_s": 5, "retries": 2, "backoff_s": 0.01}


@pytest.fixture(scope="session")
def download(patience: dict[str, Any]) -> Callable[..., Any]:
    """Downloads the repository from the Hub that it is given, with that patience unless told otherwise."""

    def download(hub: FakeHub, output: Path, **options: Any) -> Any:
        return download_checkpoint(REPO, output=output, endpoint=hub.endpoint, **(patience | options))

    return download


@pytest.fixture(scope="session")
def interrupt(download: Callable[..., Any]) -> Callable[..., None]:
    """Leaves a download behind of which that many bytes of the weights have arrived."""

    def interrupt(hub: FakeHub, output: Path, after: int) -> None:
        hub.breaks = itertools.chain([("whole", 0)], itertools.repeat(("cut", after)))  # the tokenizer comes first
        with pytest.raises(NetworkError):
            download(hub, output, retries=0)
        hub.breaks = iter(())
        hub.requests.clear()

    return interrupt


@pytest.fixture(scope="session")
def files_below() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder, by its path from there."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="session")
def partial_files() -> Callable[[Path], list[Path]]:
    """What has arrived of files that are not whole yet."""
    return lambda output: sorted((output / STATE_FOLDER).glob("*.incomplete"))
