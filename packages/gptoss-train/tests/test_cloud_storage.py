"""Runs whose checkpoints are at gs:// URLs, with a local server in the place of Google's."""

import hashlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import types
import urllib.request
from pathlib import Path

import orbax.checkpoint as ocp
import pytest
from gptoss_train.checkpoints import read_saved_run
from gptoss_train.config import CheckpointConfig, TrainConfig
from gptoss_train.metrics import read_metrics
from gptoss_train.run_places import check_not_saved, located
from gptoss_weights import CheckpointError, MissingDependencyError, NetworkError

needs_storage = pytest.mark.skipif(
    importlib.util.find_spec("gcsfs") is None or importlib.util.find_spec("gcp_storage_emulator") is None,
    reason="needs the extra `gcs` and an emulator (session extras)",
)
URL = "gs://bucket/runs"
START_S = 30


@pytest.fixture(scope="module")
def storage():
    """Environment variables that lead Google's clients to the local server."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("storage_emulator.py")), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address, deadline = f"http://localhost:{port}", time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(address).close()
            break
        except OSError:
            assert server.poll() is None, "the emulator ended"
            assert time.monotonic() < deadline, "the emulator does not answer"
            time.sleep(0.1)
    yield {"STORAGE_EMULATOR_HOST": address, "TENSORSTORE_GCS_HTTP_URL": address, "GOOGLE_AUTH_TOKEN_FOR_TESTING": "x"}
    server.kill()
    server.wait()


def command(*arguments: object, folder: Path, environment: dict[str, str], code: int = 0) -> str:
    """What a command of the package prints, started in a folder."""
    program = [str(Path(sys.executable).with_name("gptoss-train")), *map(str, arguments)]
    done = subprocess.run(
        program, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@needs_storage
def test_a_run_at_gs_goes_on_and_goes_home_as_one_on_disk(storage, checkpoint_folder, tmp_path):
    config = {
        "model": str(checkpoint_folder),
        "run_name": "run",
        "batch_size": 2,
        "sequence_length": 24,
        "data": {"source": "synthetic"},
        "optimizer": {"schedule": "constant"},
        "checkpoint": {"every": 2, "keep_last": 1},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))  # JSON is YAML

    def go(*arguments: object) -> str:
        return command(*arguments, folder=tmp_path, environment=storage)

    go("finetune", "config.yaml", "steps=4", "output=here")
    go("finetune", "config.yaml", "steps=2", f"output={URL}")
    refused = command(
        *("finetune", "config.yaml", "steps=4", f"output={URL}", "checkpoint.mode=off"),
        folder=tmp_path,
        environment=storage,
        code=3,
    )
    assert refused.startswith(f"error: {URL}/run: this run is saved at step 2, and with checkpoint.mode=off it would")
    go("finetune", "config.yaml", "steps=1", f"output={URL}", "run_name=unsaved", "checkpoint.mode=off")
    assert "goes on after step 2" in go("finetune", "config.yaml", "steps=4", f"output={URL}")
    [here, there] = (
        [line["loss"] for line in read_metrics(tmp_path / x / "run/metrics.jsonl")] for x in ("here", "runs")
    )
    assert len(here) == 4
    assert there == here
    go("export", "here/run", "from-here")
    go("export", f"{URL}/run/", "from-there")
    assert digests(tmp_path / "from-there") == digests(tmp_path / "from-here")
    with urllib.request.urlopen(f"{storage['STORAGE_EMULATOR_HOST']}/storage/v1/b/bucket/o") as answer:
        names = [found["name"] for found in json.load(answer)["items"]]
    assert {name.split("/")[3] for name in names if name.startswith("runs/run/checkpoints/")} == {"4"}


@needs_storage
def test_what_is_not_at_gs_is_one_sentence(storage, tmp_path):
    output = command("export", f"{URL}/nothing", "out", folder=tmp_path, environment=storage, code=3)
    assert output.startswith(f"error: {URL}/nothing/checkpoints: the run has no checkpoint")
    assert "Traceback" not in output


def test_storage_that_gives_no_answer_is_no_fault_of_ours(monkeypatch):
    class HttpError(Exception):
        """As gcsfs has it: of no class that says what it is."""

    def refuse(*_arguments, **_options):
        raise HttpError("Anonymous caller does not have storage.objects.list access, 401")

    monkeypatch.setitem(sys.modules, "gcsfs", types.ModuleType("gcsfs"))
    monkeypatch.setattr(ocp, "CheckpointManager", refuse)
    with pytest.raises(
        NetworkError, match=r"^gs://bucket/runs/run/checkpoints: the storage gives no answer \(Anonymous"
    ):
        read_saved_run(f"{URL}/run/")


@pytest.mark.parametrize("saved", [None, 7])
def test_run_that_is_not_to_be_saved_asks_the_storage_whether_it_was(monkeypatch, saved):
    class Manager:
        def __init__(self, folder, **_options):
            assert folder == f"{URL}/run/checkpoints"

        def latest_step(self):
            return saved

    monkeypatch.setitem(sys.modules, "gcsfs", types.ModuleType("gcsfs"))
    monkeypatch.setattr(ocp, "CheckpointManager", Manager)
    config = TrainConfig(model="nowhere", output=f"{URL}/", checkpoint=CheckpointConfig(mode="off"))
    if saved is None:
        check_not_saved(config)
    else:
        with pytest.raises(CheckpointError, match=r"^gs://bucket/runs/run: this run is saved at step 7, and"):
            check_not_saved(config)


def test_run_in_a_folder_that_is_not_saved_never_imports_orbax(tmp_path):
    script = (
        "import sys\n"
        "import gptoss_train.loop\n"
        "from gptoss_train.config import CheckpointConfig, TrainConfig\n"
        "from gptoss_train.run_places import check_not_saved\n"
        "check_not_saved(TrainConfig(model='nowhere', output=sys.argv[1], checkpoint=CheckpointConfig(mode='off')))\n"
        "print([name for name in sys.modules if name.startswith('orbax')])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_gs_without_its_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingDependencyError, match=r"gs:// needs gcsfs. Install gptoss-train\[gcs\]"):
        read_saved_run(f"{URL}/run")


@pytest.mark.parametrize("mode", ["async", "off"])
def test_a_url_that_will_not_do_is_refused_before_anything_is_loaded(mode, tmp_path):
    config = ["finetune", "tiny", "model=nowhere", "output=s3://bucket", f"checkpoint.mode={mode}"]
    assert "checkpoints cannot be there" in command(*config, folder=tmp_path, environment={}, code=3)


def test_a_file_url_is_a_folder(tmp_path):
    assert located(f"file://{tmp_path}/runs") == str(tmp_path / "runs")


def test_other_urls_are_refused():
    with pytest.raises(
        CheckpointError, match="s3://bucket/run: checkpoints cannot be there; expected a folder, or a gs"
    ):
        read_saved_run("s3://bucket/run")
