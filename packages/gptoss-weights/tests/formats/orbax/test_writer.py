"""Writing: equal values, equal files, sizes as planned; Orbax itself restores it, sharded as well."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gptoss_weights import (
    Checkpoint,
    CheckpointError,
    Index,
    Mxfp4Tensor,
    NotEnoughSpaceError,
    open_checkpoint,
    random_checkpoint,
)
from gptoss_weights.formats.orbax import open_orbax, plan_orbax_sizes, write_orbax
from gptoss_weights.formats.orbax import writer as writer_module
from gptoss_weights.formats.orbax.tree import orbax_leaves
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint

type Same = Callable[[Checkpoint, Checkpoint], None]


class View(Checkpoint):
    """A checkpoint whose arrays pass through a function of name and values; experts decoded."""

    format = "view"

    def __init__(self, around: Checkpoint, change: Callable[[str, np.ndarray], np.ndarray]) -> None:
        self.config, self.side_files = around.config, around.side_files
        self._around, self._change = around, change

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        tensor = self._around.read(name, index)
        return self._change(name, tensor.decode() if isinstance(tensor, Mxfp4Tensor) else tensor)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------ round trips


def test_every_value_comes_back(source: Checkpoint, written: Path, assert_same_values: Same, is_scanned: bool) -> None:
    checkpoint = open_orbax(written, config=None)
    assert checkpoint.format == ("orbax-scanned" if is_scanned else "orbax-unscanned")
    assert_same_values(source, checkpoint)


@pytest.mark.parametrize("chunk_bytes", [1, 3_000, 20_000, 200_000])
def test_every_value_comes_back_however_it_is_cut(
    tmp_path: Path,
    source: Checkpoint,
    assert_same_values: Same,
    is_scanned: bool,
    chunk_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer_module, "CHUNK_BYTES", chunk_bytes)
    write_orbax(source, tmp_path, is_scanned=is_scanned)
    assert_same_values(source, open_orbax(tmp_path, config=None))


def test_float32_stays_float32(tmp_path: Path, source: Checkpoint, assert_same_values: Same, is_scanned: bool) -> None:
    wide = View(source, lambda _, values: values.astype(np.float32))
    write_orbax(wide, tmp_path, is_scanned=is_scanned)
    assert_same_values(wide, open_orbax(tmp_path, config=None))


def test_tree_of_maxtext_survives_being_written_again(
    maxtext: Path, tmp_path: Path, assert_same_values: Same, is_scanned: bool
) -> None:
    checkpoint = open_orbax(maxtext, config=None)
    target = tmp_path / "again"
    target.mkdir()
    write_orbax(checkpoint, target, is_scanned=not is_scanned)
    assert_same_values(checkpoint, open_orbax(target, config=None))


def test_all_zeros_are_stored_as_well(tmp_path: Path, source: Checkpoint, assert_same_values: Same) -> None:
    nothing = View(source, lambda _, values: np.zeros_like(values))
    write_orbax(nothing, tmp_path, is_scanned=True)
    assert_same_values(nothing, open_orbax(tmp_path, config=None))


# ------------------------------------------------------------------------------- the files


def test_equal_weights_give_equal_files(tmp_path: Path, source: Checkpoint, written: Path, is_scanned: bool) -> None:
    again = tmp_path / "again"
    again.mkdir()
    write_orbax(source, again, is_scanned=is_scanned)
    assert files(again) == files(written)


@pytest.mark.parametrize("chunk_bytes", [20_000, writer_module.CHUNK_BYTES])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32])
def test_sizes_are_as_planned(
    tmp_path: Path,
    source: Checkpoint,
    is_scanned: bool,
    dtype: type,
    chunk_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer_module, "CHUNK_BYTES", chunk_bytes)
    write_orbax(View(source, lambda _, values: values.astype(dtype)), tmp_path, is_scanned=is_scanned)
    planned = plan_orbax_sizes(source.config, is_scanned=is_scanned, dtype=dtype)
    for key, nbytes in planned.items():
        assert sum(path.stat().st_size for path in (tmp_path / key / "c").rglob("*") if path.is_file()) == nbytes


def test_config_keeps_its_dialect_and_loses_a_quantisation_that_no_longer_holds(tmp_path: Path) -> None:
    source = open_checkpoint(write_tiny_checkpoint(tmp_path / "hf", format="hf"))
    target = tmp_path / "orbax"
    target.mkdir()
    write_orbax(source, target, is_scanned=True)
    document = json.loads((target / "config.json").read_text())
    assert document["model_type"] == "gpt_oss"
    assert "quantization_config" not in document
    assert open_orbax(target, config=None).config == source.config


# ------------------------------------------------------------------------------- refusals


def test_odd_number_of_layers_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    odd = random_checkpoint(tiny_config(num_hidden_layers=3), seed=0)
    with pytest.raises(CheckpointError, match="does not come in pairs"):
        write_orbax(odd, tmp_path, is_scanned=True)
    assert not any(tmp_path.iterdir())


def test_dtypes_that_differ_within_a_leaf_are_refused(tmp_path: Path, source: Checkpoint) -> None:
    mixed = View(source, lambda name, values: values.astype(np.float32) if ".layers.2." in name else values)
    with pytest.raises(ValueError, match=r"model\.layers\.2\..* is float32, but model\.layers\.0\..*shares its leaf"):
        write_orbax(mixed, tmp_path, is_scanned=True)


def test_dtype_that_maxtext_has_not_is_refused(tmp_path: Path, source: Checkpoint, is_scanned: bool) -> None:
    narrow = View(source, lambda _, values: values.astype(np.float16))
    with pytest.raises(ValueError, match="is float16; MaxText's leaves are bfloat16 or float32"):
        write_orbax(narrow, tmp_path, is_scanned=is_scanned)


def test_full_disk_is_called_so(tmp_path: Path, source: Checkpoint) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # less than the embedding; Python ignores SIGXFSZ
    try:
        with pytest.raises(NotEnoughSpaceError, match="the disk is full"):
            write_orbax(source, tmp_path, is_scanned=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -------------------------------------------------------------------------- Orbax restores

RESTORE = """
import json, sys
import jax, ml_dtypes, numpy as np, orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec
folder, shapes = sys.argv[1], json.loads(sys.argv[2])
whole = ocp.PyTreeCheckpointer().restore(folder)
mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
flat = {path: whole for path in shapes}
def at(tree, path):
    for key in path.split("/"):
        tree = tree[key]
    return tree
def nested(leaves):
    tree = {}
    for path, leaf in leaves.items():
        *folders, last = path.split("/")
        node = tree
        for key in folders:
            node = node.setdefault(key, {})
        node[last] = leaf
    return tree
def sharded(shape):
    axis = next((axis for axis, extent in enumerate(shape) if extent % 4 == 0), None)
    spec = [("x" if axis == here else None) for here in range(len(shape))]
    return jax.ShapeDtypeStruct(shape, ml_dtypes.bfloat16, sharding=NamedSharding(mesh, PartitionSpec(*spec)))
some = {path: shape for path, shape in shapes.items() if "GptOss" in path}  # a part of the tree
abstract = nested({path: sharded(shape) for path, shape in some.items()})
part = ocp.PyTreeCheckpointer().restore(folder, args=ocp.args.PyTreeRestore(
    item=abstract, restore_args=ocp.checkpoint_utils.construct_restore_args(abstract), partial_restore=True))
count = 0
for path, shape in some.items():
    leaf = at(part, path)
    assert len(leaf.sharding.device_set) == 4
    count += leaf.addressable_shards[0].data.shape != leaf.shape
    assert np.array_equal(np.asarray(leaf).view(np.uint16), at(whole, path).view(np.uint16)), path
assert count > len(some) / 2
np.savez(sys.argv[3], **{path: at(whole, path).view(np.uint16) for path in shapes})
"""


def test_orbax_restores_the_tree_whole_and_a_part_of_it_sharded(
    tmp_path: Path, source: Checkpoint, is_scanned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("orbax.checkpoint", reason="Orbax itself is not installed")
    monkeypatch.setattr(writer_module, "CHUNK_BYTES", 20_000)
    folder = tmp_path / "orbax"
    folder.mkdir()
    write_orbax(source, folder, is_scanned=is_scanned)
    leaves = orbax_leaves(source.config, is_scanned=is_scanned)
    shapes = json.dumps({leaf.shown: leaf.shape for leaf in leaves})
    environment = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "HOME": str(tmp_path),
    }
    command = [sys.executable, "-c", RESTORE, str(folder), shapes, str(tmp_path / "restored.npz")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    restored: Any = np.load(tmp_path / "restored.npz")
    for leaf in leaves:
        expected = [_leaf_of(source, leaf, position) for position in range(len(leaf.specs))]
        stacked = np.stack(expected, axis=1) if leaf.is_scanned else expected[0]
        np.testing.assert_array_equal(restored[leaf.shown], stacked.view(np.uint16), err_msg=leaf.shown)


def _leaf_of(source: Checkpoint, leaf: Any, position: int) -> np.ndarray:
    """The leaf by the rules of MaxText's converter, stated once more and not by letters."""
    name = leaf.specs[position].name
    tensor = source.read(name)
    values = tensor.decode() if isinstance(tensor, Mxfp4Tensor) else tensor
    c = source.config
    match name.removesuffix(".weight").rpartition(".")[2]:
        case "lm_head" | "router":
            return values.T if values.ndim == 2 else values
        case "q_proj":
            return values.T.reshape(c.hidden_size, c.num_attention_heads, c.head_dim)
        case "k_proj" | "v_proj":
            return values.T.reshape(c.hidden_size, c.num_key_value_heads, c.head_dim)
        case "o_proj":
            return values.T.reshape(c.num_attention_heads, c.head_dim, c.hidden_size)
        case "gate_up_proj":
            return values.transpose(0, 2, 1)[..., leaf.half :: 2]
        case "gate_up_proj_bias":
            return values[..., leaf.half :: 2]
        case "down_proj":
            return values.transpose(0, 2, 1)
        case "bias" if "o_proj" not in name and "router" not in name:
            return values.reshape(-1, c.head_dim)
        case _:
            return values
