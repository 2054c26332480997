"""Fixtures of the Orbax tests: TensorStore or a skip, trees that we wrote, trees that MaxText wrote."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gptoss_weights import Checkpoint, Mxfp4Tensor, random_checkpoint
from gptoss_weights.formats.orbax import write_orbax
from gptoss_weights.testing import tiny_config

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def _needs_tensorstore() -> None:
    pytest.importorskip("tensorstore", reason="the extra [orbax] is not installed")


@pytest.fixture(params=[True, False], ids=["scanned", "unscanned"])
def is_scanned(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def source() -> Checkpoint:
    return random_checkpoint(tiny_config(), seed=3)


@pytest.fixture
def written(tmp_path: Path, source: Checkpoint, is_scanned: bool) -> Path:
    """A tree of ours, to be damaged at will."""
    folder = tmp_path / "orbax"
    folder.mkdir()
    write_orbax(source, folder, is_scanned=is_scanned)
    return folder


@pytest.fixture
def maxtext(tmp_path: Path, is_scanned: bool) -> Path:
    """A tree that MaxText 0.2.5 wrote (`data/make_maxtext.py`), to be damaged at will."""
    name = "maxtext-scanned" if is_scanned else "maxtext-unscanned"
    return shutil.copytree(DATA / name, tmp_path / name)


@pytest.fixture
def assert_same_values() -> Callable[[Checkpoint, Checkpoint], None]:
    """Bit-equality of two checkpoints, packed experts decoded."""

    def check(one: Checkpoint, other: Checkpoint) -> None:
        assert list(one) == list(other)
        for name in one:
            a, b = (t.decode() if isinstance(t, Mxfp4Tensor) else t for t in (one.read(name), other.read(name)))
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a.view(f"u{a.itemsize}"), b.view(f"u{b.itemsize}"), err_msg=name)

    return check
