"""A conversion that is killed goes on where it was; two at once do not meet; a full disk leaves everything whole."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from gptoss_weights import Checkpoint, CheckpointError, open_checkpoint, random_checkpoint, save_checkpoint
from gptoss_weights.output.files import OutputFiles
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint

TARGETS = {"hf": "out", "hf-bf16": "out", "flax": "out.msgpack", "orbax-scanned": "out"}

# Converts, with a pause after each piece, so that there is time to kill it.
SLOW = """
import sys, time
from gptoss_weights import open_checkpoint, convert_checkpoint
source, target, format, pause = sys.argv[1:]
print("begun", flush=True)
convert_checkpoint(open_checkpoint(source), target, format=format, progress=lambda _: time.sleep(float(pause)))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_tiny_checkpoint(tmp_path / "source", format="openai", num_hidden_layers=2)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def start(source: Path, target: Path, format_name: str, pause: float) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", SLOW, source, target, format_name, str(pause)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_killed_while_it_runs_it_ends_in_the_same_bytes(source: Path, tmp_path: Path) -> None:
    for folder in ("at-once", "killed"):
        (tmp_path / folder).mkdir()
    save_checkpoint(open_checkpoint(source), tmp_path / "at-once" / "out", format="hf")
    process = start(source, tmp_path / "killed" / "out", "hf", 0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "out").exists()
    process = start(source, tmp_path / "killed" / "out", "hf", 0)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert contents(tmp_path / "killed") == contents(tmp_path / "at-once")


# How many steps at either end are tried, and of those between one in how many; Orbax takes more steps, all alike.
KILLS = {"openai": (18, 11), "hf": (18, 11), "hf-bf16": (18, 11), "flax": (18, 11), "orbax-scanned": (10, 41)}


@pytest.mark.slow
@pytest.mark.parametrize("format_name", KILLS)
def test_killed_at_any_step_it_ends_in_the_same_bytes(format_name: str, source: Path, tmp_path: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork processes")
    if format_name.startswith("orbax"):
        pytest.importorskip("tensorstore", reason="the extra orbax is not installed")
    script = Path(__file__).with_name("killed_everywhere.py")
    (tmp_path / "killed").mkdir()
    arguments = [sys.executable, script, source, tmp_path / "killed", format_name, *map(str, KILLS[format_name])]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    steps, tried = map(int, result.stdout.split())
    edge, every = KILLS[format_name]
    assert steps > 4 * edge
    assert tried >= 2 * edge + (steps - 2 * edge) // every


class Interrupted(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def interrupt_after(pieces: int) -> object:
    count = 0

    def progress(_: int) -> None:
        nonlocal count
        count += 1
        if count == pieces:
            raise Interrupted

    return progress


@pytest.mark.parametrize("format_name", ["openai", "hf-bf16", "flax"])
def test_pieces_that_are_done_are_not_written_again(
    format_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = random_checkpoint(tiny_config(num_hidden_layers=2), seed=1)
    target = tmp_path / TARGETS.get(format_name, "out")
    with pytest.raises(Interrupted):
        save_checkpoint(checkpoint, target, format=format_name, progress=interrupt_after(20))
    assert not target.exists()
    written: list[int] = []
    plain = OutputFiles.write

    def counted(self: OutputFiles, name: str, offset: int, content: bytes | memoryview | np.ndarray) -> None:
        written.append(len(content) if isinstance(content, bytes) else content.nbytes)
        plain(self, name, offset, content)

    monkeypatch.setattr(OutputFiles, "write", counted)
    sizes: list[int] = []
    save_checkpoint(checkpoint, target, format=format_name, progress=sizes.append)
    assert sum(written) <= sum(sizes[20:])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert open_checkpoint(target).config == checkpoint.config


def test_another_job_starts_anew(tmp_path: Path) -> None:
    one, other = (random_checkpoint(tiny_config(num_hidden_layers=2), seed=seed) for seed in (1, 2))
    with pytest.raises(Interrupted):
        save_checkpoint(one, tmp_path / "out", format="hf", progress=interrupt_after(30))
    save_checkpoint(other, tmp_path / "out", format="hf")
    assert open_checkpoint(tmp_path / "out").digest() == other.digest()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_source_that_changed_meanwhile_starts_anew(source: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        save_checkpoint(open_checkpoint(source), tmp_path / "out", format="hf-bf16", progress=interrupt_after(30))
    weights = source / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    save_checkpoint(open_checkpoint(source), tmp_path / "out", format="hf-bf16")
    save_checkpoint(open_checkpoint(source), tmp_path / "expected", format="hf-bf16")
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


def test_another_boot_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = random_checkpoint(tiny_config(num_hidden_layers=2), seed=1)
    with pytest.raises(Interrupted):
        save_checkpoint(checkpoint, tmp_path / "out", format="hf", progress=interrupt_after(30))
    for path in (tmp_path / ".out.partial" / "files").iterdir():
        path.write_bytes(bytes(path.stat().st_size))  # what a power failure may leave
    monkeypatch.setattr("gptoss_weights.output.staging._boot_id", lambda: "another")
    save_checkpoint(checkpoint, tmp_path / "out", format="hf")
    assert open_checkpoint(tmp_path / "out").digest() == checkpoint.digest()


@pytest.mark.parametrize("moment", ["rename", "discard"])
@pytest.mark.parametrize("format_name", ["openai", "flax"])
def test_interrupted_while_it_is_moved_into_place_it_is_finished_by_the_next_run(
    format_name: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = random_checkpoint(tiny_config(num_hidden_layers=2), seed=1)
    target = tmp_path / TARGETS.get(format_name, "out")

    def interrupt(*_: object, **__: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr({"rename": "pathlib.Path.rename", "discard": "shutil.rmtree"}[moment], interrupt)
        with pytest.raises(Interrupted):
            save_checkpoint(checkpoint, target, format=format_name)
    save_checkpoint(checkpoint, target, format=format_name)
    assert open_checkpoint(target).config == checkpoint.config
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_second_process_is_told_who_holds_the_output(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    process = start(source, target, "hf", 0.2)
    deadline = time.monotonic() + 30
    while not (tmp_path / ".out.partial" / "done").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(CheckpointError, match=rf"out: another process is writing it; found process {process.pid} on "):
        save_checkpoint(open_checkpoint(source), target, format="hf")
    process.kill()
    process.communicate()
    save_checkpoint(open_checkpoint(source), target, format="hf")  # the lock died with its holder
    assert not (tmp_path / ".out.lock").exists()


@pytest.mark.parametrize("format_name", ["hf-bf16", "orbax-unscanned"])
def test_full_disk_on_the_way_leaves_source_and_neighbours_whole(
    source: Path, tmp_path: Path, format_name: str
) -> None:
    neighbour = tmp_path / "neighbour"
    save_checkpoint(open_checkpoint(source), neighbour, format="hf")
    before = contents(source), contents(neighbour)
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000));"
        "from gptoss_weights.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", script, "convert", source, tmp_path / "out", "--to", format_name]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (6, "")
    assert re.match(r"error: .*(model.*\.safetensors: not enough space|: params/.*: the disk is full)", result.stderr)
    assert len(result.stderr.splitlines()) == 1
    assert (contents(source), contents(neighbour)) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["neighbour", "source"]


def test_interrupted_command_says_how_to_go_on(source: Path, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from gptoss_weights.output.staging import Staging;"
        "plain = Staging.record;"
        "Staging.record = lambda self, key, *rest: (plain(self, key, *rest), key.startswith('model.norm') and "
        "os.kill(os.getpid(), signal.SIGTERM));"
        "from gptoss_weights.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", script, "convert", source, tmp_path / "out", "--to", "hf-bf16"]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 143
    assert "the same command goes on from there" in result.stderr
    job = json.loads((tmp_path / ".out.partial" / "job.json").read_text())
    assert job["job"]["format"] == "hf-bf16"
    save_checkpoint(open_checkpoint(source), tmp_path / "out", format="hf-bf16", dtype="bfloat16")
    assert not (tmp_path / ".out.partial").exists()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_checkpoint(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell the peak of a process")
    peaks: dict[str, list[int]] = {}
    for layers in (2, 8):
        source = write_tiny_checkpoint(
            tmp_path / f"{layers}", format="openai", num_hidden_layers=layers, num_experts=16, hidden_size=512,
            intermediate_size=1024, head_dim=64,
        )  # fmt: skip
        assert sum(path.stat().st_size for path in source.iterdir()) > layers * 12_000_000
        for format_name, name in TARGETS.items():
            if format_name != "orbax-scanned":
                arguments = [
                    sys.executable,
                    "-c",
                    PEAK,
                    source,
                    tmp_path / f"{layers}-{format_name}-{name}",
                    format_name,
                ]
                peak = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
                peaks.setdefault(format_name, []).append(int(peak))
    for format_name, (few, many) in peaks.items():
        assert many - few < 24 << 10, f"{format_name}: {few} KiB for 2 layers, {many} for 8"


# Limits on pieces are lowered in proportion to the tiny layers; prints the peak of its own memory in KiB.
PEAK = """
import sys
from pathlib import Path
from gptoss_weights import mapped_file, open_checkpoint, save_checkpoint
from gptoss_weights.formats import safetensors_pieces
from gptoss_weights.formats.flax_msgpack import writing
mapped_file.RESIDENT_BYTES = safetensors_pieces.PIECE_BYTES = 4 << 20
writing._SLICE_BYTES = writing._STRIPE_BYTES = 4 << 20
source, target, format = sys.argv[1:]
save_checkpoint(open_checkpoint(source), target, format=format)
[line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
print(line.split()[1])
"""


def test_checkpoint_without_a_fingerprint_is_never_taken_up(tmp_path: Path) -> None:
    class Unknown(Checkpoint):
        format = "unknown"
        side_files: Mapping[str, Path] = MappingProxyType({})

        def __init__(self) -> None:
            self.source = random_checkpoint(tiny_config(num_hidden_layers=2), seed=1)
            self.config = self.source.config

        def read(self, name, index=()):
            return self.source.read(name, index)

    with pytest.raises(Interrupted):
        save_checkpoint(Unknown(), tmp_path / "out", format="hf", progress=interrupt_after(30))
    (tmp_path / ".out.partial" / "files" / "model-00000-of-00000.safetensors").write_bytes(b"")
    save_checkpoint(Unknown(), tmp_path / "out", format="hf")
    save_checkpoint(random_checkpoint(tiny_config(num_hidden_layers=2), seed=1), tmp_path / "same", format="hf")
    assert contents(tmp_path / "out") == contents(tmp_path / "same")


@pytest.fixture
def completed_by_a_killed_run(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output that is complete, and the lock, which a process that was killed in its last moment leaves."""
    plain = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if not path.name.endswith(".lock"):
            plain(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        save_checkpoint(open_checkpoint(source), tmp_path / "out", format="hf")
    assert (tmp_path / ".out.lock").exists()
    return tmp_path / "out"


def test_killed_when_all_is_done_the_next_run_finds_it_done(source: Path, completed_by_a_killed_run: Path) -> None:
    target = completed_by_a_killed_run
    before = contents(target)
    save_checkpoint(open_checkpoint(source), target, format="hf")
    assert contents(target) == before
    assert sorted(path.name for path in target.parent.iterdir()) == ["out", "source"]
    with pytest.raises(CheckpointError, match="the target is not empty"):  # nobody was killed this time
        save_checkpoint(open_checkpoint(source), target, format="hf")


def test_what_a_killed_run_has_done_is_not_taken_for_another_job(source: Path, completed_by_a_killed_run: Path) -> None:
    with pytest.raises(CheckpointError, match="the target is not empty"):
        save_checkpoint(open_checkpoint(source), completed_by_a_killed_run, format="hf-bf16")


def test_what_was_changed_since_a_killed_run_is_not_taken_for_done(
    source: Path, completed_by_a_killed_run: Path
) -> None:
    (completed_by_a_killed_run / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="the target is not empty"):
        save_checkpoint(open_checkpoint(source), completed_by_a_killed_run, format="hf")
