import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gptoss_train.metrics import read_metrics

COMMAND = Path(sys.executable).with_name("gptoss-train")
SMALL = [
    "optimizer.warmup_steps=0",
    "geometry.num_hidden_layers=2",
    "batch_size=2",
    "sequence_length=32",
    "data.synthetic.longest=30",
]
PATIENCE_S = 300


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_so_in_the_exit_code(number, code, tmp_path):
    """And the run goes on behind the very step."""
    command = [str(COMMAND), "pretrain", "tiny", *SMALL, f"output={tmp_path}", "checkpoint.every=100000"]
    process = subprocess.Popen([*command, "steps=100000"], stderr=subprocess.PIPE, text=True)
    metrics, start = tmp_path / "tiny" / "metrics.jsonl", time.monotonic()
    while len(read_metrics(metrics)) < 2:
        assert process.poll() is None
        assert time.monotonic() < start + PATIENCE_S
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    steps = read_metrics(metrics)[-1]["step"]
    assert f"stopped by {number.name} after step {steps}, saved" in said
    assert (tmp_path / "tiny" / "checkpoints" / str(steps)).is_dir()
    more = subprocess.run([*command, f"steps={steps + 1}"], capture_output=True, text=True, timeout=PATIENCE_S)
    assert more.returncode == 0, more.stderr
    assert f"goes on after step {steps}" in more.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_is_lost_before_the_first_step_stops_the_run_before_it(number, code, tmp_path):
    """It comes inside a callback of the garbage collector, where Python ignores exceptions."""
    script = tmp_path / "command.py"
    script.write_text(
        "import gc, os, signal, sys, time\n"
        "import jax\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # it is ignored where tests run in the background
        "def stop(phase, info):\n"
        "    if 'gptoss_train.setup' in sys.modules:\n"
        "        gc.callbacks.remove(stop)\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "        time.sleep(0.01)\n"
        "gc.callbacks.append(stop)\n"
        "from gptoss_train.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, str(script), "pretrain", "tiny", *SMALL, f"output={tmp_path}", "steps=100000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == code, done.stderr
    assert f"stopped by {number.name} after step 0\n" in done.stderr
