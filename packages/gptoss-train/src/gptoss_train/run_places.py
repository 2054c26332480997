"""Where a run is: its checkpoints in a folder or at a gs:// URL, its metrics and reports always on this machine."""

from pathlib import Path

from gptoss_weights import CheckpointError, MissingDependencyError
from gptoss_weights.places import as_place

from gptoss_train.config import TrainConfig

__all__ = ["CHECKPOINTS", "check_not_saved", "local_folder", "located", "run_folder"]

SCHEME = "gs://"
CHECKPOINTS = "checkpoints"  # in the run's folder: a folder for each saved step, called by its number


def run_folder(config: TrainConfig) -> str:
    """Where the run's checkpoints are: a folder, or a URL."""
    return f"{config.output.rstrip('/')}/{config.run_name}"


def local_folder(config: TrainConfig) -> Path:
    """Where its metrics and reports are: the same folder, or `runs/…` where that is a URL."""
    output = as_place(config.output)
    return (output if isinstance(output, Path) else Path("runs")) / config.run_name


def located(folder: str) -> str:
    """The absolute path of a folder, or the URL that it is, without a slash at its end.

    Raises:
        CheckpointError: a URL of another kind than gs://.
        MissingDependencyError: the extra for those is missing.
    """
    place = as_place(folder)
    if isinstance(place, Path):
        return str(place.absolute())
    if not place.startswith(SCHEME):
        raise CheckpointError("checkpoints cannot be there", where=folder, expected=f"a folder, or a {SCHEME} URL")
    try:
        import gcsfs  # noqa: F401 - what Orbax opens such URLs by
    except ImportError:
        raise MissingDependencyError(f"{SCHEME} needs gcsfs", where=folder, fix="Install gptoss-train[gcs].") from None
    return place.rstrip("/")


def check_not_saved(config: TrainConfig) -> None:
    """Refuses a run that is not to be saved where one was: it would begin anew, and its metrics take the others' place.

    Raises:
        CheckpointError: there is a saved step; or a URL of another kind than gs://.
        MissingDependencyError: gs://, without the extra `gcs`.
        NetworkError: the storage there gives no answer.
    """
    place = as_place(run_folder(config))
    newest = _newest_in(place / CHECKPOINTS) if isinstance(place, Path) else _newest_at(place)
    if newest is not None:
        raise CheckpointError(
            f"this run is saved at step {newest}, and with checkpoint.mode=off it would not go on from there",
            where=place,
            fix="Give another run_name, or checkpoint.mode=async.",
        )


def _newest_in(folder: Path) -> int | None:
    if not folder.is_dir():
        return None
    return max((int(child.name) for child in folder.iterdir() if child.name.isdecimal()), default=None)


def _newest_at(url: str) -> int | None:
    from gptoss_train.checkpoints import newest_saved_step  # Orbax takes a second, and for a folder it is not needed

    return newest_saved_step(url)
