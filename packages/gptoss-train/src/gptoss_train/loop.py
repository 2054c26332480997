"""The loop: batches, steps, metrics and checkpoints, until the last step or a signal.

A checkpoint is the state after a step and the position of the data behind that step's batch, so a run
that goes on sees the batches that it has not seen, and ends with the bits of one that was never stopped.
"""

import dataclasses
import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import Signals
from typing import Any, Protocol

import jax
import numpy as np
from gptoss_weights import GptOssWarning
from gptoss_weights.durable_files import write_durably

from gptoss_train.audit import Audit, AuditResult
from gptoss_train.batch import Batch
from gptoss_train.checkpoints import Checkpoints
from gptoss_train.config import TrainConfig
from gptoss_train.errors import TrainingError
from gptoss_train.evaluation import Evaluation
from gptoss_train.metrics import MetricsFile, step_metrics
from gptoss_train.parameters import canonical_name
from gptoss_train.placing import place_batch
from gptoss_train.progress import ProgressBar
from gptoss_train.reading import changed_keys, config_as_yaml
from gptoss_train.setup import Run
from gptoss_train.signals import stop_requests
from gptoss_train.sinks import MetricSink, open_sinks
from gptoss_train.state import TrainState
from gptoss_train.step import Step, StepReport, compiled_for

__all__ = ["BatchIterator", "Outcome", "local_folder", "run_folder", "train"]

_WITHOUT_EFFECT = {"output", "run_name", "checkpoint", "evaluation", "log"}  # on what is learnt


class BatchIterator(Protocol):
    """Batches [B, T] of this process's rows, with grain's position."""

    def __next__(self) -> Batch:
        """The next batch."""

    def get_state(self) -> dict[str, Any]:
        """Behind the batches that were taken."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes there again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended, or paused.

    Attributes:
        state: After the last step.
        first_step: After which step it went on; 0 for a new one.
        first_loss: Of the first step of this time; None if there was none, or it was no number.
        last_loss: Of the last step.
        evaluation: The newest loss on held-out data.
        signal: What stopped it before its last step.
        audit: What the audit found, where there was one.
        is_out_of_data: Whether the data ended before the last step.
    """

    state: TrainState
    first_step: int
    first_loss: float | None
    last_loss: float | None
    evaluation: float | None
    signal: Signals | None
    audit: AuditResult | None
    is_out_of_data: bool = False


def run_folder(config: TrainConfig) -> str:
    """Where the run's checkpoints are: a folder, or a URL."""
    return f"{config.output.rstrip('/')}/{config.run_name}"


def local_folder(config: TrainConfig) -> Path:
    """Where its metrics and reports are: the same folder, or `runs/…` where that is a URL."""
    return Path("runs" if "://" in config.output else config.output) / config.run_name


def train(
    run: Run,
    batches: BatchIterator,
    *,
    evaluation: Evaluation | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Outcome:
    """Runs the steps that are left.

    Args:
        run: Of `set_up`.
        batches: Of the data, at their beginning.
        evaluation: What is held out, or None.
        say: Called with a sentence where something is worth one.

    Raises:
        CheckpointError: the checkpoint of the run is of another one.
        TrainingError: a number was none and is to stop the run, or the audit failed.
    """
    config = run.config
    checkpoints = None if config.checkpoint.mode == "off" else Checkpoints(run_folder(config), config.checkpoint)
    state = run.state
    is_first = jax.process_index() == 0
    if checkpoints is not None and checkpoints.latest_step() is not None:
        state, position, saved = checkpoints.restore(state)
        batches.set_state(position)
        _warn_of_changes(saved, config)
        say(f"goes on after step {int(state.step)}")
    folder = local_folder(config)
    first_step = int(state.step)
    sinks: list[MetricSink] = []
    metrics = None
    if is_first:
        metrics = MetricsFile(folder / "metrics.jsonl", after_step=first_step)
        write_durably(folder / "config.yaml", config_as_yaml(config).encode())
        _note_event(folder, {"event": "resume" if first_step else "start", "step": first_step, "time": time.time()})
        sinks = open_sinks(config, folder)
    try:
        with stop_requests() as request:
            return _steps(run, state, batches, checkpoints, evaluation, metrics, sinks, request.wanted, say)
    finally:
        for closing in (*sinks, metrics, checkpoints):
            if closing is not None:
                closing.close()


def _steps(
    run: Run,
    state: TrainState,
    batches: BatchIterator,
    checkpoints: Checkpoints | None,
    evaluation: Evaluation | None,
    metrics: MetricsFile | None,
    sinks: list[MetricSink],
    stop_signal: Callable[[], Signals | None],
    say: Callable[[str], object],
) -> Outcome:
    config = run.config
    identity = {"method": run.method, "config": config_as_yaml(config), "geometry": run.geometry.numbers()}
    first_step = int(state.step)
    bar = ProgressBar(config.steps) if metrics is not None else None
    audit_steps = config.lora.audit_steps
    audit = Audit(run.frozen) if run.method == "lora" and first_step < audit_steps else None
    audited: AuditResult | None = None
    losses: list[float | None] = []
    evaluated: float | None = None
    received: Signals | None = None
    make_step: Step | None = None
    is_out_of_data = False
    for step in range(first_step + 1, config.steps + 1):
        if bar is not None and not losses:
            bar.say("compiling")
        started = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            is_out_of_data = True
            say(f"the data ended after {step - 1} of {config.steps} steps; data.epochs: null goes on without end")
            break
        position = batches.get_state()
        skipped_before = int(state.skipped)
        placed = place_batch(batch, run)
        make_step = make_step or compiled_for(run.step, state, run.frozen, placed)
        state, report = make_step(state, run.frozen, placed)
        report = jax.block_until_ready(report)
        line = step_metrics(
            report,
            step=step,
            learning_rate=float(run.schedule(step - 1 - skipped_before)),
            seconds=time.perf_counter() - started,
            skipped=int(state.skipped),
        )
        losses.append(line["loss"])
        if not bool(report.is_applied):
            _on_nonfinite(report, step, config, say)
        if audit is not None:
            audit.watch(report)
            if step == min(first_step + audit_steps, config.steps):
                audited = audit.result(run.frozen)
                audited.require()
                say(audited.sentence())
                audit = None
        is_last = step == config.steps
        if evaluation is not None and (is_last or step % config.evaluation.every == 0):
            evaluated = line["evaluation_loss"] = evaluation.loss(state.parameters, run)
        if metrics is not None:
            metrics.write(line)
        for sink in sinks:
            sink.write(line)
        if bar is not None:
            bar.show(line)
        received = stop_signal()
        if checkpoints is not None and (checkpoints.is_due(step) or is_last or received):
            checkpoints.save(state, position, identity)
        if received:
            say(f"stopped by {received.name} after step {step}" + ("" if checkpoints is None else ", saved"))
            break
    if is_out_of_data and checkpoints is not None and int(state.step) > first_step:
        checkpoints.save(state, batches.get_state(), identity)
    if checkpoints is not None:
        checkpoints.wait()
    if bar is not None:
        bar.clear()
    return Outcome(
        state=state,
        first_step=first_step,
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        evaluation=evaluated,
        signal=received,
        audit=audited,
        is_out_of_data=is_out_of_data,
    )


def _on_nonfinite(report: StepReport, step: int, config: TrainConfig, say: Callable[[str], object]) -> None:
    bad = _first_bad_parameter(report)
    what = f"the gradient of {bad}" if bad else "the loss"
    if config.optimizer.nonfinite == "stop":
        raise TrainingError(
            f"{what} is no finite number in step {step}",
            found=f"loss {float(report.loss)}",
            fix="Lower optimizer.learning_rate or optimizer.clip_norm, raise optimizer.warmup_steps, or leave such "
            "steps out with optimizer.nonfinite=skip.",
        )
    say(f"step {step} left out: {what} is no finite number")


def _first_bad_parameter(report: StepReport) -> str | None:
    """The first, in the order of the layers, whose gradient holds something that is no finite number."""
    bad = [
        canonical_name(name, int(row))
        for name, flags in report.is_finite.items()
        for row in np.flatnonzero(~np.asarray(flags))
    ]
    return min(bad, key=_forward_order) if bad else None


def _forward_order(name: str) -> tuple[int, int, str]:
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    outside = {"model.embed_tokens.weight": 0, "model.norm.weight": 2, "lm_head.weight": 3}
    return outside.get(name, 1), numbers[0] if numbers else 0, name


def _warn_of_changes(saved: Mapping[str, Any], config: TrainConfig) -> None:
    """Says what of the config is not as it was saved, and makes another run of this one."""
    changed = {
        key: values
        for key, values in changed_keys(saved["config"], config_as_yaml(config)).items()
        if key.partition(".")[0] not in _WITHOUT_EFFECT
    }
    if changed:
        shown = "; ".join(f"{key} was {old!r}, is {new!r}" for key, (old, new) in changed.items())
        warnings.warn(
            f"the run goes on with another config, so not as it would have: {shown}", GptOssWarning, stacklevel=2
        )


def _note_event(folder: Path, event: Mapping[str, Any]) -> None:
    with (folder / "events.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(event) + "\n")
