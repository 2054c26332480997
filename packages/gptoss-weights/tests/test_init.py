"""The package's table of contents is complete, and reading it costs almost nothing."""

import subprocess
import sys

import gptoss_weights
import pytest


@pytest.mark.parametrize("name", gptoss_weights.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(gptoss_weights, name) is not None
    assert name in dir(gptoss_weights)


def test_contents_and_public_names_agree() -> None:
    assert sorted(gptoss_weights._MODULE_OF) == sorted(gptoss_weights.__all__)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'gptoss_weights' has no attribute 'open_checkpoints'"):
        gptoss_weights.open_checkpoints  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ("numpy", "torch", "jax", "safetensors", "tokenizers", "click")
    script = f"import sys, gptoss_weights; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_whole_package_needs_neither_jax_nor_torch() -> None:
    script = (
        "import sys, gptoss_weights as w, gptoss_weights.testing, gptoss_weights.cli\n"
        "[getattr(w, name) for name in w.__all__]\n"
        "print([name for name in ('torch', 'jax', 'tokenizers') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
