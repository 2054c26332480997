"""Saving a run and going on: Orbax's `CheckpointManager`, with the data's position in every checkpoint.

A checkpoint has four items: `parameters` (what is trained), `optimizer` (moments and counters), `data`
(the position of the iterator) and `run` (what the run is). Orbax writes each under a temporary name and
renames it when it is whole; at gs:// URLs, where nothing can be renamed, it adds a file that says so. So
whenever a run is killed, all checkpoints that count are complete. What an interrupted save leaves behind
is removed when the run goes on.
"""

import contextlib
import dataclasses
import errno
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from gptoss_weights import CheckpointError, GptOssError, NetworkError, NotEnoughSpaceError
from gptoss_weights.places import is_url

from gptoss_train.config import CheckpointConfig
from gptoss_train.damage import advice_on_damage, damage_named, first_line
from gptoss_train.run_places import CHECKPOINTS, located
from gptoss_train.saved_arrays import SavedArray, open_saved_arrays
from gptoss_train.state import TrainState

__all__ = ["Checkpoints", "SavedRun", "newest_saved_step", "read_saved_parameters", "read_saved_run"]

ITEMS = ("parameters", "optimizer", "data", "run")
FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_MARKS = tuple(f"os_error_code='{code}'" for code in FULL)  # in what TensorStore says
UNREADABLE = "Encountered error while reading array index"  # orbax-checkpoint, in an Exception
CHUNK_BYTES = 1 << 26  # of what is read at once: of a stack of layers a part, so that `export` needs little memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedRun:
    """What the newest checkpoint of a run says of it.

    Attributes:
        step: After which step it was saved.
        run: What the run is: its method and config.
        shapes: Name → shape and dtype of each parameter.
    """

    step: int
    run: Mapping[str, Any]
    shapes: Mapping[str, jax.ShapeDtypeStruct]


class Checkpoints:
    """The checkpoints of a run.

    Args:
        run_folder: The folder, or gs:// URL, of the run.
        config: When to save and what to keep.

    Raises:
        CheckpointError: a URL of another kind.
        MissingDependencyError: gs://, without the extra `gcs`.
    """

    def __init__(self, run_folder: str, config: CheckpointConfig) -> None:
        _quiet()
        if not isinstance(sys.unraisablehook, _WithoutLateCallbacks):
            sys.unraisablehook = _WithoutLateCallbacks(sys.unraisablehook)
        self.config = config
        self.folder = f"{located(run_folder)}/{CHECKPOINTS}"
        options = ocp.CheckpointManagerOptions(
            max_to_keep=config.keep_last,
            keep_period=config.keep_every,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=config.mode == "async",
        )
        with _answered(self.folder):
            self._manager: Any = ocp.CheckpointManager(self.folder, options=options, item_names=ITEMS)

    def is_due(self, step: int) -> bool:
        """Whether a step is one after which the run is saved."""
        return step % self.config.every == 0

    def save(self, state: TrainState, position: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        """Saves the state, unless that step is saved already.

        Raises:
            NotEnoughSpaceError, CheckpointError: it cannot be written; or an earlier one, when saving is asynchronous.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        rest = {"step": state.step, "skipped": state.skipped, "moments": state.optimizer}
        items = ocp.args.Composite(
            parameters=ocp.args.StandardSave(
                state.parameters,
                save_args=jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), state.parameters),
            ),
            optimizer=ocp.args.StandardSave(rest),
            data=ocp.args.JsonSave(dict(position)),
            run=ocp.args.JsonSave(dict(run)),
        )
        with self._explained():
            self._manager.save(step, args=items)

    def latest(self) -> SavedRun | None:
        """What the newest checkpoint says of itself; None if there is none.

        Raises:
            CheckpointError: it is damaged.
        """
        with _answered(self.folder):
            step = self._manager.latest_step()
            return None if step is None else _said_by(self._manager, self.folder, step)

    def restore(self, step: int, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The state that was saved after a step, on the devices of `state`, and the data's position.

        Raises:
            CheckpointError: it is damaged, or of another model or optimizer.
        """
        rest = {"step": state.step, "skipped": state.skipped, "moments": state.optimizer}
        with _answered(self.folder), damage_named(self.folder, step, self._manager.all_steps()):
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    parameters=ocp.args.StandardRestore(_abstract(state.parameters)),
                    optimizer=ocp.args.StandardRestore(_abstract(rest)),
                    data=ocp.args.JsonRestore(),
                ),
            )
            position = dict(found.data)
        restored = TrainState(
            step=found.optimizer["step"],
            skipped=found.optimizer["skipped"],
            parameters=found.parameters,
            optimizer=found.optimizer["moments"],
        )
        # Orbax's buffers are its own: the step gives its argument's memory away.
        return jax.tree.map(lambda array: array.copy(), restored), position

    def wait(self) -> None:
        """Until everything is on disk; raises as `save`."""
        with self._explained():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go; raises as `save`."""
        with self._explained():
            self._manager.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """What the file system has against a checkpoint, as a sentence; TensorStore says it in a ValueError."""
        try:
            with _answered(self.folder):
                yield
        except (ValueError, OSError) as error:
            if (isinstance(error, OSError) and error.errno in FULL) or any(mark in str(error) for mark in FULL_MARKS):
                raise NotEnoughSpaceError(
                    "the disk is full, and the newest step is not saved",
                    where=self.folder,
                    fix="Make room, or set checkpoint.keep_last lower, and run the command again: it goes on after the "
                    "last step that is saved.",
                ) from error
            raise CheckpointError(f"the run cannot be saved ({first_line(error)})", where=self.folder) from error


def newest_saved_step(run_folder: str) -> int | None:
    """After which step a run was last saved; None where nothing is saved.

    Args:
        run_folder: The folder, or gs:// URL, of the run.

    Raises:
        CheckpointError: a URL of another kind.
        MissingDependencyError: gs://, without the extra `gcs`.
        NetworkError: the storage gives no answer.
    """
    folder = f"{located(run_folder)}/{CHECKPOINTS}"
    with _answered(folder):
        step: int | None = _read_only(folder).latest_step()
        return step


def read_saved_run(run_folder: str) -> SavedRun:
    """What the newest checkpoint of a run says of it.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    folder = f"{located(run_folder)}/{CHECKPOINTS}"
    with _answered(folder):
        manager = _reader(run_folder)
        return _said_by(manager, folder, manager.latest_step())


def read_saved_parameters(run_folder: str, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, SavedArray]:
    """The parameters of the newest checkpoint of a run, to be read part by part.

    Args:
        run_folder: The folder, or URL, of the run.
        shapes: As `read_saved_run` gives them.

    Raises:
        CheckpointError: there is none, or it is damaged or of another model.
    """
    folder = f"{located(run_folder)}/{CHECKPOINTS}"
    with _answered(folder):
        manager = _reader(run_folder)
        step = manager.latest_step()
        advice = advice_on_damage(folder, step, manager.all_steps())
    return open_saved_arrays(
        f"{folder}/{step}/parameters", shapes, fix=f"If it is damaged: {advice[0].lower()}{advice[1:]}"
    )


def _reader(run_folder: str) -> Any:
    folder = f"{located(run_folder)}/{CHECKPOINTS}"
    if not is_url(folder) and not Path(folder).is_dir():
        raise CheckpointError(
            "there is no run that was saved", where=run_folder, expected=f"a folder {CHECKPOINTS} in it"
        )
    manager = _read_only(folder)
    if manager.latest_step() is None:
        raise CheckpointError("the run has no checkpoint", where=folder, fix="Let it get as far as its first save.")
    return manager


def _read_only(folder: str) -> Any:
    _quiet()
    return ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(read_only=True), item_names=ITEMS)


def _said_by(manager: Any, folder: str, step: int) -> SavedRun:
    with damage_named(folder, step, manager.all_steps()):
        found = manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))
        metadata = ocp.StandardCheckpointer().metadata(f"{folder}/{step}/parameters")
        tree = metadata.item_metadata.tree
        shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in tree.items()}
        return SavedRun(step=step, run=dict(found.run), shapes=shapes)


def _abstract(tree: Any) -> Any:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)


@contextlib.contextmanager
def _answered(folder: str) -> Iterator[None]:
    """What keeps a storage from answering, as a sentence; what Google's libraries raise has no class in common."""
    try:
        yield
    except (GptOssError, ValueError, KeyError, TypeError):
        raise
    except Exception as error:  # see above
        if not is_url(folder):
            raise
        raise NetworkError(
            f"the storage gives no answer ({first_line(error)})",
            where=folder,
            fix="Look at the bucket's name, at your credentials (`gcloud auth application-default login`), and at the "
            "network.",
        ) from error


def _quiet() -> None:
    """Its lines about every save are not for users, and what goes wrong is raised besides."""
    for name in ("absl", "asyncio", "gcsfs"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class _WithoutLateCallbacks:
    """A hook for exceptions that nobody can catch, but for those of a save or a restore that has failed.

    Orbax gives up at the first file that fails, and that is raised. But TensorStore goes on to say of each other one
    how it went, to an event loop that is no more, and of what was read beside it Python says that nobody asked.
    """

    def __init__(self, hook: Callable[[Any], object]) -> None:
        self._hook = hook

    def __call__(self, unraisable: Any) -> None:
        words = str(unraisable.exc_value)
        is_late = isinstance(unraisable.exc_value, RuntimeError) and words == "Event loop is closed"
        if not is_late and not words.startswith(UNREADABLE):
            self._hook(unraisable)
