"""The readers keep their promise on mutated inputs: a value or a refusal, and nothing else; see fuzz/."""

import importlib.util
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.filterwarnings("ignore::gptoss_weights.GptOssWarning")

FUZZ = Path(__file__).parent.parent / "fuzz"


def module_at(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fuzz_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


targets = module_at(FUZZ / "targets.py")
mutated = module_at(FUZZ / "mutation.py").mutated


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with targets.workplace() as place:
        yield place


def refuses(target: Any, content: bytes, folder: Path) -> bool:
    try:
        target.read(content, folder)
    except target.refusals:
        return True
    return False


@pytest.mark.parametrize("name", targets.TARGETS)
def test_sound_inputs_are_read(name: str, folder: Path) -> None:
    target = targets.TARGETS[name]
    assert target.seeds()
    assert not any(refuses(target, seed, folder) for seed in target.seeds())


@pytest.mark.parametrize("name", targets.TARGETS)
def test_mutated_inputs_are_read_or_refused(name: str, folder: Path) -> None:
    target = targets.TARGETS[name]
    seeds = target.seeds()

    @settings(max_examples=150)
    @given(st.integers(0, 2**32), st.sampled_from(seeds))
    def check(seed: int, content: bytes) -> None:
        refuses(target, mutated(content, random.Random(seed), is_json=target.is_json), folder)

    check()


FINDINGS = sorted((FUZZ / "findings").glob("*/*"))


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_the_fuzzer_found_is_refused(path: Path, folder: Path) -> None:
    assert refuses(targets.TARGETS[path.parent.name], path.read_bytes(), folder)


def test_there_are_findings() -> None:
    assert len(FINDINGS) >= 4
