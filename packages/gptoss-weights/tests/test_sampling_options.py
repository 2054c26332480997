import click
import pytest
from click.testing import CliRunner
from gptoss_weights.sampling import Sampling
from gptoss_weights.sampling_options import sampling_options

FOUND = []


@click.command
@sampling_options
def command(sampling: Sampling | None, seed: int) -> None:
    FOUND.append((sampling, seed))


def run(*arguments: str):
    FOUND.clear()
    return CliRunner().invoke(command, arguments)


def test_nothing_given_is_greedy():
    assert run().exit_code == 0
    assert FOUND == [(None, 0)]


def test_options_become_a_sampling_and_a_seed():
    assert run("--temperature", "0.7", "--top-k", "5", "--top-p", "0.9", "--min-p", "0.1", "--seed", "3").exit_code == 0
    assert [(Sampling(temperature=0.7, top_k=5, top_p=0.9, min_p=0.1), 3)] == FOUND
    run("--temperature", "1")
    assert [(Sampling(temperature=1), 0)] == FOUND


def test_a_seed_alone_changes_nothing_and_is_no_error():
    assert run("--seed", "1").exit_code == 0
    assert FOUND == [(None, 1)]


@pytest.mark.parametrize("option", [("--top-k", "5"), ("--top-p", "0.5"), ("--min-p", "0.5")])
def test_what_would_do_nothing_is_refused(option):
    result = run(*option)
    assert result.exit_code == 2
    assert "Without --temperature" in result.stderr
    assert option[0] in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--temperature", "-1"], "temperature is 0 or a positive number"),
        (["--temperature", "nan"], "temperature is 0 or a positive number"),
        (["--temperature", "1", "--top-p", "0"], "top_p lies above 0"),
        (["--temperature", "1", "--top-k", "0", "--min-p", "7"], "top_k is a whole number of at least 1, not 0; min_p"),
        (["--temperature", "1", "--seed", "4294967296"], "4294967296 is not in the range"),
        (["--temperature", "warm"], "not a valid float"),
    ],
)
def test_numbers_out_of_range_are_usage_errors(options, words):
    result = run(*options)
    assert result.exit_code == 2
    assert words in result.stderr
