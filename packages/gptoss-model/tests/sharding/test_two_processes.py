import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import generate, load_model
from gptoss_weights import save_checkpoint, tensor_specs

WORKER = Path(__file__).with_name("one_of_two_processes.py")
SECONDS = 300  # for starting, compiling and running; two cores that others use too
F32_TOLERANCE = 2e-6


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def reports(splittable, tmp_path_factory):
    """What two processes of four devices each say, of one model on a mesh of eight."""
    folder = tmp_path_factory.mktemp("processes")
    save_checkpoint(splittable, folder / "checkpoint", format="hf")
    arguments = [f"127.0.0.1:{free_port()}", folder / "checkpoint", folder, "fsdp=2,expert=2,tensor=2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    logs = [folder / f"log{number}" for number in range(2)]
    processes = []
    try:
        for number, log in enumerate(logs):
            with log.open("wb") as file:
                command = [sys.executable, WORKER, str(number), *map(str, arguments)]
                processes.append(subprocess.Popen(command, env=environment, stdout=file, stderr=file))
        codes = [process.wait(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0, 0], "\n".join(log.read_text()[-3000:] for log in logs)
    logits = [np.load(folder / f"logits{number}.npy") for number in range(2)]
    return [json.loads((folder / f"report{number}.json").read_text()) for number in range(2)], logits


@pytest.mark.slow
def test_two_processes_give_the_logits_and_the_tokens_of_one(splittable, reports, relative_error):
    said, logits = reports
    model = load_model(splittable, dtype=jnp.float32)
    expected = model(np.array(said[0]["prompts"])).logits
    for report, values in zip(said, logits, strict=True):
        assert report["devices"] == 8
        assert relative_error(values, expected) < F32_TOLERANCE
        assert report["tokens"] == generate(model, report["beginnings"], max_new_tokens=len(report["tokens"][0]))


@pytest.mark.slow
def test_each_process_reads_only_its_own_half_of_every_matrix(splittable, reports):
    first, second = (report["bytes"] for report in reports[0])
    for name, spec in tensor_specs(splittable.config).items():
        whole = splittable.read(name).nbytes
        is_split = len(spec.shape) > 1 and ".router." not in name and not name.endswith("gate_up_proj_bias")
        assert first[name] == second[name] == (whole // 2 if is_split else whole), name
