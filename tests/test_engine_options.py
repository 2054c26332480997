"""Both engines take the same options, but for those that say how an engine computes."""

import click
import pytest
from gptoss_model.cli.chat import chat_command as chat_in_jax
from gptoss_model.cli.generate import generate_command as generate_in_jax
from gptoss_onnx.cli.chat import chat_command as chat_in_onnx
from gptoss_onnx.cli.run import run_command as run_in_onnx

OF_JAX = {"attention", "compilation_cache", "config", "dtype", "experts", "mesh", "moe", "scan_layers"}
OF_ONNX = {"mode", "threads"}


def options(command: click.Command) -> dict[str, tuple[object, ...]]:
    """Name with underscores → what is typed, what it takes, and what it is if it is not given."""
    found = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            name = parameter.opts[0].lstrip("-").replace("-", "_")
            found[name] = (tuple(parameter.opts), repr(parameter.type), parameter.to_info_dict()["default"])
    return found


@pytest.mark.parametrize(
    ("in_jax", "in_onnx"),
    [(generate_in_jax, run_in_onnx), (chat_in_jax, chat_in_onnx)],
    ids=["generate and run", "chat"],
)
def test_both_engines_take_the_same_options_with_the_same_defaults(in_jax, in_onnx):
    jax, onnx = options(in_jax), options(in_onnx)
    assert jax.keys() - onnx.keys() == OF_JAX
    assert onnx.keys() - jax.keys() == OF_ONNX
    assert {name: jax[name] for name in jax.keys() - OF_JAX} == {name: onnx[name] for name in onnx.keys() - OF_ONNX}
