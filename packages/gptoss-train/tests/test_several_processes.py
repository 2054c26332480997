"""A run of several processes is the run of one, whether each reads other rows or some read the same."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gptoss_train.going_home import open_run
from gptoss_train.metrics import read_metrics

pytestmark = pytest.mark.slow

SECONDS = 400  # for starting, compiling and running; two cores that others use too
TOLERANCE = 1e-6
WEIGHT_TOLERANCE = 1e-4  # four steps move a weight by 1e-2; where a gradient is next to nothing, AdamW magnifies noise
COMMAND = Path(sys.executable).with_name("gptoss-train")
RUN = ["pretrain", "tiny", "steps=4", "optimizer.warmup_steps=0", "checkpoint.every=2", "checkpoint.keep_last=2"]
RUN += [f"geometry.{name}={size}" for name, size in {"num_hidden_layers": 2, "head_dim": 16}.items()]
RUN += ["geometry.num_attention_heads=8", "geometry.num_key_value_heads=8"]  # so that tensor=8 divides them
RUN += ["sequence_length=48", "data.synthetic.longest=40", "evaluation.every=2", "evaluation.batches=1"]
RUN += ["evaluation.data={source: synthetic, synthetic: {longest: 40, records: 60}}"]
IN_TWO_PARTS, IN_EIGHT_PARTS = ["gradient_accumulation=2"], ["gradient_accumulation=8"]  # of four rows, of one


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def run(folder):
    """Runs a command in so many processes of so many devices each; gives what each said."""

    def start(name, *arguments, processes=1, devices=1):
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": ""}
        environment |= {"JAX_NUM_CPU_DEVICES": str(devices)}
        if processes > 1:
            address = f"127.0.0.1:{free_port()}"
            environment |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(processes)}
        logs = [folder / f"{name}.log{number}" for number in range(processes)]
        command = [str(COMMAND), *RUN, f"run_name={name}", *arguments]
        started = []
        try:
            for number, path in enumerate(logs):
                mine = environment | ({"JAX_PROCESS_ID": str(number)} if processes > 1 else {})
                with path.open("wb") as log:
                    started.append(subprocess.Popen(command, env=mine, cwd=folder, stdout=log, stderr=log))
            codes = [process.wait(timeout=SECONDS) for process in started]
        finally:
            for process in started:
                process.kill()
                process.wait()
        said = [path.read_text() for path in logs]
        assert codes == [0] * processes, "\n".join(text[-2000:] for text in said)
        return said

    return start


@pytest.fixture(scope="module")
def one(run):
    run("one", *IN_TWO_PARTS)
    return "one"


@pytest.fixture(scope="module")
def four(run):
    """Processes 0 and 1 have the first half of the rows, 2 and 3 the other."""
    run("four", *IN_TWO_PARTS, "run.mesh=data=2,tensor=2", processes=4)
    return "four"


@pytest.fixture
def numbers_of(folder):
    def read(name):
        lines = read_metrics(folder / f"runs/{name}/metrics.jsonl")
        assert [line["step"] for line in lines] == [1, 2, 3, 4]
        held_out = [line["evaluation_loss"] for line in lines if "evaluation_loss" in line]
        assert len(held_out) == 2
        counts = [[line[key] for key in ("samples", "tokens", "target_tokens")] for line in lines]
        return [line["loss"] for line in lines], held_out, counts

    return read


@pytest.fixture
def parameters_of(folder, monkeypatch):
    def read(name):
        monkeypatch.chdir(folder)
        return {key: saved[()] for key, saved in open_run(f"runs/{name}").parameters.items()}

    return read


@pytest.fixture
def interrupted(folder):
    """A run as if it had been killed after its second step."""

    def copy(name, other):
        shutil.copytree(folder / f"runs/{name}", folder / f"runs/{other}")
        shutil.rmtree(folder / f"runs/{other}/checkpoints/4")
        return other

    return copy


def assert_same_run(name, expected, numbers_of):
    losses, held_out, counts = numbers_of(name)
    expected_losses, expected_held_out, expected_counts = numbers_of(expected)
    np.testing.assert_allclose(losses, expected_losses, rtol=TOLERANCE)
    np.testing.assert_allclose(held_out, expected_held_out, rtol=TOLERANCE)
    assert counts == expected_counts
    assert losses[-1] < losses[0]


def test_two_processes_that_read_other_rows_are_one(run, one, numbers_of):
    said = run("fsdp", *IN_TWO_PARTS, "run.mesh=fsdp=2", processes=2)
    assert "4 of 4 steps" in said[0]
    spoken = [line for line in said[1].splitlines() if not line.startswith("[Gloo]")]  # of JAX's own transport
    assert spoken == [], "only the first process speaks"
    assert_same_run("fsdp", one, numbers_of)


def test_two_processes_that_read_the_same_rows_are_one(run, one, numbers_of):
    run("tensor", *IN_TWO_PARTS, "run.mesh=tensor=8", processes=2, devices=4)
    assert_same_run("tensor", one, numbers_of)


def test_processes_that_share_a_row_and_evaluate_on_others_are_one(run, numbers_of):
    """A part of a step has one row, which `expert` does not divide; the eight that are evaluated it does."""
    run("one-by-one", *IN_EIGHT_PARTS)
    run("expert", *IN_EIGHT_PARTS, "run.mesh=expert=2,tensor=4", processes=2, devices=4)
    assert_same_run("expert", "one-by-one", numbers_of)


def test_two_groups_of_two_processes_are_one(one, four, numbers_of, parameters_of):
    assert_same_run(four, one, numbers_of)
    expected = parameters_of(one)
    for name, value in parameters_of(four).items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=WEIGHT_TOLERANCE, err_msg=name)


def test_groups_that_were_killed_go_on_bit_for_bit(run, four, numbers_of, parameters_of, interrupted):
    name = interrupted(four, "resumed")
    said = run(name, *IN_TWO_PARTS, "run.mesh=data=2,tensor=2", processes=4)
    assert "goes on after step 2" in said[0]
    assert numbers_of(name) == numbers_of(four)
    expected = parameters_of(four)
    for key, value in parameters_of(name).items():
        np.testing.assert_array_equal(value, expected[key], err_msg=key)


def test_what_groups_have_saved_goes_on_in_one_process(run, one, four, numbers_of, interrupted):
    name = interrupted(four, "alone")
    said = run(name, *IN_TWO_PARTS)
    assert "goes on after step 2" in said[0]
    assert_same_run(name, one, numbers_of)
