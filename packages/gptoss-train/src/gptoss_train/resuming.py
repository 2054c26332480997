"""Going on with a run: whether what was saved is of the same run, and what of its config has changed since."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gptoss_weights import CheckpointError, GptOssWarning

from gptoss_train.parameters import is_stacked
from gptoss_train.reading import changed_keys, config_as_yaml
from gptoss_train.setup import Run

if TYPE_CHECKING:
    from gptoss_train.checkpoints import SavedRun

__all__ = ["check_same_run"]

ANOTHER_NAME = "Give the config of that run, or another run_name."
MOST_NAMED = 3
# Keys, or the sections that begin them, which decide nothing of what is learnt.
_WITHOUT_EFFECT = {"output", "run_name", "checkpoint", "evaluation", "log", "data.threads"}
# Keys that change the order of sums, and so the last bits alone.
_ROUNDING = {
    "gradient_accumulation",
    "loss.vocabulary_chunk",
    "run.attention",
    "run.mesh",
    "run.moe",
    "run.remat",
    "run.scan_layers",
}


def check_same_run(saved: "SavedRun", run: Run, *, where: str) -> None:
    """Refuses what was saved by another run, and warns of each key of the config that has changed.

    Args:
        saved: What the checkpoint says of itself.
        run: The run that is to go on from it.
        where: What errors call the checkpoint.

    Raises:
        CheckpointError: it was saved by another command, for another model, with layers that were stacked otherwise,
            or with other parameters trained.
    """
    method = saved.run["method"]
    if method != run.method:
        raise CheckpointError(
            "a run of that name was saved by another command",
            where=where,
            expected=run.method,
            found=method,
            fix="Give another run_name.",
        )
    geometry: Mapping[str, object] = saved.run["geometry"]
    changed = [
        f"{name} {geometry.get(name)!r} where the config has {value!r}"
        for name, value in run.geometry.numbers().items()
        if geometry.get(name) != value
    ]
    if changed:
        raise CheckpointError(
            "a run of that name was saved for another model", where=where, found="; ".join(changed), fix=ANOTHER_NAME
        )
    _check_parameters(saved, run, where)
    changes = changed_keys(saved.run["config"], config_as_yaml(run.config))
    if "optimizer.name" in changes:
        before, now = changes["optimizer.name"]
        raise CheckpointError(
            "the run was saved with another optimizer", where=where, expected=now, found=before, fix=ANOTHER_NAME
        )
    _warn_of(changes)


def _check_parameters(saved: "SavedRun", run: Run, where: str) -> None:
    before = {name: leaf.shape for name, leaf in saved.shapes.items()}
    now = {name: value.shape for name, value in run.state.parameters.items()}
    was_stacked = any(map(is_stacked, before))
    if was_stacked != any(map(is_stacked, now)):
        value = "true" if was_stacked else "false"
        raise CheckpointError(
            f"the run was saved with run.scan_layers={value}, and its parameters are laid out for that",
            where=where,
            fix=f"Set run.scan_layers={value}, or give another run_name.",
        )
    others = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if others:
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        shown = ", ".join(f"{name} {before.get(name, 'not')} / {now.get(name, 'not')}" for name in others[:MOST_NAMED])
        raise CheckpointError(
            "the run was saved with other parameters trained",
            where=where,
            found=f"then / now: {shown}{more}",
            fix=ANOTHER_NAME,
        )


def _warn_of(changes: Mapping[str, tuple[Any, Any]]) -> None:
    changed = {
        key: values for key, values in changes.items() if _WITHOUT_EFFECT.isdisjoint({key, key.partition(".")[0]})
    }
    decisive = {key: values for key, values in changed.items() if key not in _ROUNDING}
    for keys, consequence in (
        (decisive, "so not as it would have"),
        ({key: changed[key] for key in changed.keys() - decisive.keys()}, "which changes no more than rounding"),
    ):
        if keys:
            shown = "; ".join(f"{key} was {old!r}, is {new!r}" for key, (old, new) in sorted(keys.items()))
            warnings.warn(f"the run goes on with another config, {consequence}: {shown}", GptOssWarning, stacklevel=2)
