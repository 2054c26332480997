"""The README's first command: parity of both engines with the official code, in under a minute."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

MAX_SECONDS = 60  # promised for two cores, once installed


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path, float]:
    folder = tmp_path_factory.mktemp("demo")
    script = Path(sys.executable).with_name("gptoss-parity")
    start = time.monotonic()
    result = subprocess.run([str(script), "demo"], capture_output=True, text=True, cwd=folder, check=False)
    return result, folder / "parity-report", time.monotonic() - start


def test_demo_holds(demo):
    result, _, _ = demo
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""


def test_demo_writes_report_numbers_and_traces(demo):
    _, report, _ = demo
    assert "<svg" in (report / "report.html").read_text() or "data:image" in (report / "report.html").read_text()
    assert json.loads((report / "report.json").read_text())
    assert list(report.rglob("*.safetensors"))


def test_report_loads_nothing_from_elsewhere(demo):
    _, report, _ = demo
    html = (report / "report.html").read_text()
    assert 'src="http' not in html
    assert 'href="http' not in html


def test_demo_keeps_its_promised_time(demo):
    _, _, seconds = demo
    assert seconds < MAX_SECONDS


def test_demo_needs_no_pytorch(demo):
    assert importlib.util.find_spec("torch") is None, "the demo ran beside PyTorch, so this proves nothing"
