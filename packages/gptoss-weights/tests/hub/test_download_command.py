"""`gptoss-weights download`: its words, its exit codes, and what an interruption leaves behind."""

import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from gptoss_weights import open_checkpoint
from gptoss_weights.cli import main
from gptoss_weights.hub.plan import STATE_FOLDER
from huggingface_hub import constants

REPO = "someone/tiny-oss"
WEIGHTS = "original/model.safetensors"
# A shell starts what runs in its background deaf to Ctrl-C, and children inherit that; so the command listens anew.
HEARING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
COMMAND = [sys.executable, "-c", f"{HEARING}; from gptoss_weights.cli import main; main()", "download"]
OK, USAGE, BAD_INPUT, NETWORK, INTERRUPTED, TERMINATED = 0, 2, 3, 7, 130, 143


@pytest.fixture
def environment(hub: Any, tmp_path: Path) -> dict[str, str]:
    own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | own


def run(environment: dict[str, str], *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=environment | variables, capture_output=True, text=True, check=False
    )


@pytest.fixture
def invoke(hub: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in this process, which takes a tenth of the time; the server is the Hub."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    return lambda *arguments: CliRunner().invoke(main, ["download", *arguments])


def test_downloaded_checkpoint_opens_where_the_command_says(hub, published, environment, tmp_path):
    hub.publish(published)
    result = run(environment, REPO, "--output", str(tmp_path / "out"), HF_TOKEN="secret")
    assert result.returncode == OK, result.stderr
    assert result.stderr == ""  # no bar where there is no terminal
    assert result.stdout.strip().endswith(f"the checkpoint is {tmp_path / 'out' / 'original'}")
    assert open_checkpoint(result.stdout.split()[-1]).config.num_hidden_layers == 4
    assert {asked.headers.get("authorization") for asked in hub.requests if asked.server == "hub"} == {"Bearer secret"}


def test_damaged_file_counts_as_fetched(hub, published, invoke, tmp_path):
    hub.publish(published)
    assert invoke(REPO, "--output", str(tmp_path / "out")).exit_code == OK
    weights = tmp_path / "out" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    again = invoke(REPO, "--output", str(tmp_path / "out"), "--json")
    assert json.loads(again.stdout)["missing_bytes"] == len(published[WEIGHTS])
    assert weights.read_bytes() == published[WEIGHTS]
    assert json.loads(invoke(REPO, "--output", str(tmp_path / "out"), "--json").stdout)["missing_bytes"] == 0


def test_dry_run_prints_a_table_of_sizes(hub, published, invoke, tmp_path):
    hub.publish(published)
    result = invoke(REPO, "--layout", "hf", "--output", str(tmp_path / "out"), "--dry-run")
    assert result.exit_code == OK, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["LICENSE", "19", "B", "19", "B"] in rows
    assert "model.safetensors.index.json" in [row[0] for row in rows if row]
    assert "metal/model.bin" not in result.stdout
    left_out = [path for path in published if "/" in path or path in {"README.md", ".gitattributes"}]
    assert rows[-1][-6:] == ["in", str(len(left_out)), "files", "of", "other", "layouts"]
    assert not (tmp_path / "out").exists()


def test_json_has_every_file_with_its_size_and_hash(hub, published, invoke, tmp_path):
    commit = hub.publish(published)
    result = invoke(REPO, "--output", str(tmp_path / "out"), "--dry-run", "--json")
    document = json.loads(result.stdout)
    assert document["dry_run"] is True
    assert document["commit"] == commit
    assert document["checkpoint"] == str(tmp_path / "out" / "original")
    files = {file["path"]: file for file in document["files"]}
    assert files[WEIGHTS]["bytes"] == len(published[WEIGHTS])
    assert len(files[WEIGHTS]["sha256"]) == 64
    assert len(files["config.json"]["git_sha1"]) == 40
    assert document["total_bytes"] == document["missing_bytes"] == sum(file["bytes"] for file in files.values())


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_interrupted_download_goes_on_where_it_stopped(hub, published, environment, tmp_path, number, code):
    hub.publish(published)
    hub.breaks = iter([("whole", 0), ("stall", 5000)])
    command = [*COMMAND, REPO, "--output", str(tmp_path / "out")]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert hub.arrived.wait(30)
        wait_for_bytes(tmp_path / "out" / STATE_FOLDER, 5000)
        process.send_signal(number)
        _, words = process.communicate(timeout=30)
    assert process.returncode == code
    assert ("run the same command again" in words) == (number == signal.SIGINT)
    assert "Traceback" not in words
    assert not (tmp_path / "out" / WEIGHTS).exists()
    hub.requests.clear()
    assert run(environment, REPO, "--output", str(tmp_path / "out")).returncode == OK
    assert [asked.range for asked in hub.asked_for(WEIGHTS)] == ["bytes=5000-"]
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == published[WEIGHTS]
    assert not (tmp_path / "out" / STATE_FOLDER).exists()


def wait_for_bytes(folder: Path, nbytes: int) -> None:
    deadline = time.monotonic() + 10
    while not any(path.stat().st_size == nbytes for path in folder.glob("*.incomplete")):
        assert time.monotonic() < deadline, "the bytes that were sent are not on disk"
        time.sleep(0.01)


def test_ctrl_c_is_heard_while_xet_storage_is_silent(hub, published, environment, tmp_path):
    hub.publish(published)
    hub.xet = {WEIGHTS: ("0" * 64, f"{hub.storage}/silent")}
    command = [*COMMAND, REPO, "--output", str(tmp_path / "out")]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while not any(asked.path.startswith("/silent/") for asked in hub.requests):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode == INTERRUPTED


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["someone/else"], NETWORK, "no such repository, or it is private"),
        ([REPO, "--layout", "hf"], BAD_INPUT, "no weights in layout hf; expected *.safetensors at its top"),
        (["a/b/c"], USAGE, "a/b/c"),
        ([REPO, "--layout", "metal"], USAGE, "metal"),
    ],
)
def test_failure_is_one_sentence_and_its_exit_code(hub, published, invoke, tmp_path, arguments, code, words):
    hub.publish({path: content for path, content in published.items() if not path.startswith("model")})
    result = invoke(*arguments, "--output", str(tmp_path / "out"))
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert code == USAGE or len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HF_ENDPOINT", "http://127.0.0.1:9", "http://127.0.0.1:9: the Hub cannot be reached"),
        ("HF_HUB_OFFLINE", "1", "switched off by HF_HUB_OFFLINE"),
    ],
)
def test_no_network_is_one_sentence_and_its_exit_code(environment, tmp_path, name, value, words):
    result = run(environment, REPO, "--output", str(tmp_path / "out"), **{name: value})
    assert result.returncode == NETWORK
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_options_set_the_patience(hub, published, invoke, tmp_path):
    hub.publish(published)
    hub.breaks = itertools.chain([("whole", 0)], itertools.repeat(("stall", 100)))
    result = invoke(REPO, "--output", str(tmp_path / "out"), "--timeout", "0.2", "--retries", "0")
    assert result.exit_code == NETWORK
    assert "got no further in 1 try" in result.stderr
    assert "nothing arrives any more" in result.stderr


def test_terminal_shows_a_bar(hub, published, environment, tmp_path):
    hub.publish(published)
    controller, terminal = pty.openpty()
    command = [*COMMAND, REPO, "--output", str(tmp_path / "out")]
    result = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=terminal, check=False)
    os.close(terminal)
    shown = os.read(controller, 1 << 16).decode()
    os.close(controller)
    assert result.returncode == OK
    assert "downloading" in shown
    assert "100%" in shown
