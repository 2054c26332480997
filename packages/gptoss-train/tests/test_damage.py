"""Each damage to the newest checkpoint is a sentence that names the step, what is wrong, and what to do."""

import dataclasses
import re
import shutil

import jax
import jax.numpy as jnp
import pytest
from gptoss_train.checkpoints import Checkpoints
from gptoss_train.going_home import open_run
from gptoss_train.loop import train
from gptoss_weights import CheckpointError


@pytest.fixture(scope="module")
def saved(full_run, make_batches, tmp_path_factory):
    """A run that is saved after steps 2 and 4."""
    run = again(full_run, tmp_path_factory.mktemp("saved"), steps=4)
    state = jax.tree.map(jnp.copy, run.state)
    train(run, make_batches())
    return dataclasses.replace(run, state=state)


def again(run, output, **changes):
    config = dataclasses.replace(run.config, output=str(output), **changes)
    return dataclasses.replace(run, config=config, state=jax.tree.map(jnp.copy, run.state))


def empty(path):
    path.write_bytes(b"")


def cut_off(path):
    path.write_bytes(path.read_bytes()[:100])


def cut_off_largest(folder):
    cut_off(max(folder.iterdir(), key=lambda path: path.stat().st_size))


def empty_folder(path):
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()


DAMAGES = {
    "run": (empty, "4/run/metadata", "run/metadata that cannot be read"),
    "leaves": (cut_off, "4/parameters/_METADATA", "parameters: the Orbax metadata"),
    "emptied": (empty_folder, "4", "no run/metadata; no data/metadata; parameters: "),
    "parameters": (cut_off_largest, "4/parameters/ocdbt.process_0/d", "Encountered error while reading array"),
    "position": (empty, "4/data/metadata", "data/metadata that cannot be read"),
    "optimizer": (shutil.rmtree, "4/optimizer", "optimizer: the Orbax metadata is not there"),
}


@pytest.mark.parametrize(("damage", "path", "words"), DAMAGES.values(), ids=DAMAGES)
def test_run_that_cannot_go_on_says_why_and_goes_on_from_the_step_before(
    damage, path, words, saved, make_batches, tmp_path
):
    shutil.copytree(saved.config.output, tmp_path, dirs_exist_ok=True)
    checkpoints = tmp_path / "run" / "checkpoints"
    damage(checkpoints / path)
    expected = (
        rf"^{re.escape(str(checkpoints))}/4: the checkpoint of the run is damaged; found .*{re.escape(words)}.*"
        rf"\. Remove {re.escape(str(checkpoints))}/4: the newest saved step then is 2\.$"
    )
    with pytest.raises(CheckpointError, match=expected):
        train(again(saved, tmp_path), make_batches())
    shutil.rmtree(checkpoints / "4")
    assert train(again(saved, tmp_path), make_batches()).first_step == 2


def test_empty_folder_that_has_the_name_of_a_step_is_one_to_remove(saved, make_batches, tmp_path):
    shutil.copytree(saved.config.output, tmp_path, dirs_exist_ok=True)
    empty_folder(tmp_path / "run" / "checkpoints" / "99999")
    with pytest.raises(CheckpointError, match=r"/99999: .* is damaged.*/99999: the newest saved step then is 4\.$"):
        train(again(saved, tmp_path), make_batches())


def test_where_nothing_else_is_whole_the_advice_is_to_begin_anew(saved, make_batches, tmp_path):
    shutil.copytree(saved.config.output, tmp_path, dirs_exist_ok=True)
    checkpoints = tmp_path / "run" / "checkpoints"
    for step in "24":
        empty(checkpoints / step / "run" / "metadata")
    with pytest.raises(CheckpointError, match=r"No other saved step is whole: remove .*/2, .*/4 and begin anew"):
        train(again(saved, tmp_path), make_batches())


@pytest.mark.parametrize(("damage", "path", "words"), [DAMAGES[name] for name in ("run", "leaves", "emptied")])
def test_export_says_the_same(damage, path, words, saved, tmp_path):
    shutil.copytree(saved.config.output, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "run" / "checkpoints" / path)
    with pytest.raises(CheckpointError, match=rf"/4: .* is damaged.*{re.escape(words)}.*newest saved step then is 2"):
        open_run(str(tmp_path / "run"))


def test_array_that_export_cannot_read_is_named_with_what_to_do(saved, tmp_path):
    shutil.copytree(saved.config.output, tmp_path, dirs_exist_ok=True)
    cut_off_largest(tmp_path / "run" / "checkpoints" / "4/parameters/ocdbt.process_0/d")
    checkpoint = open_run(str(tmp_path / "run")).checkpoint()
    with pytest.raises(CheckpointError, match=r"/4/parameters, .*cannot be read.*the newest saved step then is 2"):
        [checkpoint.read(name) for name in checkpoint.specs]


def test_other_arrays_than_the_config_asks_for_are_no_damage(saved):
    checkpoints = Checkpoints(f"{saved.config.output}/run", saved.config.checkpoint)
    other = dataclasses.replace(saved.state, optimizer={"momentum": jnp.zeros(3)})
    with pytest.raises(CheckpointError, match=r"structures do not match.*Give the config of that run"):
        checkpoints.restore(4, other)
    checkpoints.close()
