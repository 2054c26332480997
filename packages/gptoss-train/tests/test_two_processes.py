"""A run of two processes has the losses of a run of one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gptoss_train.metrics import read_metrics

SECONDS = 300  # for starting, compiling and running; two cores that others use too
TOLERANCE = 1e-6
COMMAND = Path(sys.executable).with_name("gptoss-train")
RUN = ["pretrain", "tiny", "geometry.num_hidden_layers=2", "steps=4", "optimizer.warmup_steps=0", "checkpoint.every=2"]
RUN += ["sequence_length=48", "data.synthetic.longest=40", "gradient_accumulation=2"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": ""}
    together = environment | {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    mine = [{**together, "JAX_PROCESS_ID": str(number)} for number in range(2)]
    commands = [([*RUN, "run.mesh=fsdp=2", "run_name=two"], env) for env in mine] + [
        ([*RUN, "run_name=one"], environment)
    ]
    processes = []
    try:
        for number, (arguments, env) in enumerate(commands):
            with (tmp_path / f"log{number}").open("wb") as log:
                command = [str(COMMAND), *arguments]
                processes.append(subprocess.Popen(command, env=env, cwd=tmp_path, stdout=log, stderr=log))
        codes = [process.wait(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    logs = [(tmp_path / f"log{number}").read_text()[-2000:] for number in range(3)]
    assert codes == [0, 0, 0], "\n".join(logs)
    assert "4 of 4 steps" in logs[0]
    spoken = [line for line in logs[1].splitlines() if not line.startswith("[Gloo]")]  # of JAX's own transport
    assert spoken == [], "only the first process speaks"
    one, two = (
        [line["loss"] for line in read_metrics(tmp_path / f"runs/{name}/metrics.jsonl")] for name in ("one", "two")
    )
    np.testing.assert_allclose(two, one, rtol=TOLERANCE)
    assert one[-1] < one[0]
