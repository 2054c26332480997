"""Reading a stored tensor is a view of the file: read-only, lazy, right under every index."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gptoss_weights import Mxfp4Tensor, StoredArray, StoredMxfp4, open_checkpoint, random_checkpoint
from gptoss_weights.testing import tiny_config, write_hollow_checkpoint, write_tiny_checkpoint

K_PROJ = "model.layers.1.self_attn.k_proj.weight"
GATE_UP = "model.layers.1.mlp.experts.gate_up_proj"


@pytest.fixture(params=["openai", "hf"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_tiny_checkpoint(tmp_path / "checkpoint", format=request.param, max_shard_bytes=150_000)


def test_every_tensor_comes_back_as_it_was_written(folder: Path) -> None:
    checkpoint, written = open_checkpoint(folder), random_checkpoint(tiny_config(), seed=0)
    for name in written:
        there, here = checkpoint.read(name), written.read(name)
        if isinstance(here, Mxfp4Tensor):
            assert isinstance(there, Mxfp4Tensor)
            np.testing.assert_array_equal(there.blocks, here.blocks)
            np.testing.assert_array_equal(there.scales, here.scales)
        else:
            assert isinstance(there, np.ndarray)
            assert there.dtype == here.dtype
            np.testing.assert_array_equal(there, here)


@pytest.mark.parametrize("index", [(), (3,), (-1,), (slice(2, 9),), (slice(None), 5), (4, 7), (slice(8, 2, -2),)])
def test_index_selects_what_numpy_selects(folder: Path, index: tuple[int | slice, ...]) -> None:
    checkpoint = open_checkpoint(folder)
    part = checkpoint.read_array(K_PROJ, index)
    np.testing.assert_array_equal(part, checkpoint.read_array(K_PROJ)[index])
    assert isinstance(part, np.ndarray)


@pytest.mark.parametrize("index", [(3,), (-1, 5), (slice(1, 4),), (2, slice(0, 8), slice(32, 96))])
def test_packed_index_selects_what_numpy_selects_of_the_values(folder: Path, index: tuple[int | slice, ...]) -> None:
    checkpoint = open_checkpoint(folder)
    whole, part = checkpoint.read(GATE_UP), checkpoint.read(GATE_UP, index)
    assert isinstance(whole, Mxfp4Tensor)
    assert isinstance(part, Mxfp4Tensor)
    np.testing.assert_array_equal(part.decode(), whole.decode()[index])


def test_arrays_are_read_only_views_without_a_copy(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    array = checkpoint.read_array(K_PROJ)
    assert not array.flags.writeable
    assert array.base is not None
    assert np.shares_memory(array, checkpoint.read_array(K_PROJ))


def test_stored_says_where_the_bytes_stand(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    for name in (K_PROJ, GATE_UP):
        stored, tensor = checkpoint.stored(name), checkpoint.read(name)
        if isinstance(stored, StoredMxfp4):
            assert isinstance(tensor, Mxfp4Tensor)
            assert _content(stored.blocks) == tensor.blocks.tobytes()
            assert _content(stored.scales) == tensor.scales.tobytes()
            assert stored.nbytes == tensor.nbytes
        else:
            assert isinstance(tensor, np.ndarray)
            assert stored is not None
            assert _content(stored) == tensor.tobytes()


def _content(stored: StoredArray) -> bytes:
    return stored.path.read_bytes()[stored.offset : stored.offset + stored.nbytes]


def test_unknown_name_is_a_key_error(folder: Path) -> None:
    with pytest.raises(KeyError):
        open_checkpoint(folder).read("model.layers.9.self_attn.sinks")


PEAK_GROWTH = """
import re, sys
from pathlib import Path
from gptoss_weights import open_checkpoint, verify_checkpoint

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10

checkpoint = open_checkpoint(sys.argv[1])
checkpoint.read("model.norm.weight")
before = peak()
{act}
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process's peak memory")
@pytest.mark.parametrize("act", ["checkpoint.digest()", "verify_checkpoint(checkpoint)"])
def test_reading_everything_holds_a_fraction_of_it(tmp_path: Path, act: str) -> None:
    folder = write_hollow_checkpoint(tmp_path / "hollow", tiny_config(vocab_size=1_200_000))
    size = (folder / "model.safetensors").stat().st_size
    script = [sys.executable, "-c", PEAK_GROWTH.format(act=act), str(folder)]
    growth = int(subprocess.run(script, check=True, capture_output=True, text=True).stdout)
    assert growth < size // 4
