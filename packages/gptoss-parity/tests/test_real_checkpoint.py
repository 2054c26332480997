"""The whole on a real checkpoint, wherever GPTOSS_CHECKPOINT names one."""

import json
import os

import pytest
from click.testing import CliRunner
from gptoss_parity.cli import main
from gptoss_weights.cli_errors import ExitCode

pytestmark = pytest.mark.slow

VARIABLE = "GPTOSS_CHECKPOINT"


@pytest.fixture
def checkpoint():
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no checkpoint")
    return os.environ[VARIABLE]


def test_two_layers_agree_in_every_implementation_that_is_installed(checkpoint, tmp_path):
    arguments = [
        "--max-layers",
        "2",
        "--random-tokens",
        "32",
        "--block-debug",
        "--layerwise",
        "--output",
        str(tmp_path),
    ]
    result = CliRunner().invoke(main, ["verify", checkpoint, *arguments])
    assert result.exit_code == ExitCode.OK, result.output
    document = json.loads((tmp_path / "report.json").read_text())
    for comparison in document["comparisons"]:
        assert all(layer["flips_by_kind"]["real"] == 0 for layer in comparison["routing"])
        logits = next(probe for probe in comparison["probes"] if probe["name"] == "logits")
        assert logits["logits"]["argmax_agreement_outside_ties"] == 1
