"""The loop: batches, steps, metrics and checkpoints, until the last step or a signal.

A checkpoint is the state after a step and the position of the data behind that step's batch, so a run
that goes on sees the batches that it has not seen, and ends with the bits of one that was never stopped.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any, Protocol

import jax
from gptoss_weights.durable_files import write_durably

from gptoss_train.audit import FEWEST_STEPS, Audit, AuditResult
from gptoss_train.batch import Batch
from gptoss_train.data import DataStatistics
from gptoss_train.errors import TrainingError
from gptoss_train.evaluation import Evaluation
from gptoss_train.metrics import MetricsFile, json_number, step_metrics
from gptoss_train.nonfinite import origin_of
from gptoss_train.placing import place_batch
from gptoss_train.progress import ProgressBar
from gptoss_train.reading import config_as_yaml
from gptoss_train.resuming import check_same_run
from gptoss_train.run_places import check_not_saved, local_folder, run_folder
from gptoss_train.sample_counts import SampleCounts
from gptoss_train.setup import Run
from gptoss_train.signals import StopRequest, WaitEnded, stop_requests
from gptoss_train.sinks import MetricSink, open_sinks
from gptoss_train.state import TrainState
from gptoss_train.step import Step, StepReport, compiled_for

if TYPE_CHECKING:
    from gptoss_train.checkpoints import Checkpoints

__all__ = ["BatchIterator", "Outcome", "train"]


class BatchIterator(Protocol):
    """Batches [B, T] of this process's rows, with grain's position.

    Those of `gptoss_train.data` have `statistics` too, which the metrics then tell, and `get_state_after`, without
    which a signal waits for the next batch and its step.
    """

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
        statistics: What the run has read so far, from its first step on; None where the data do not count it.
        held_out: What was read for `evaluation`; None likewise, or where nothing was evaluated.
    """

    state: TrainState
    first_step: int
    first_loss: float | None
    last_loss: float | None
    evaluation: float | None
    signal: Signals | None
    audit: AuditResult | None
    is_out_of_data: bool = False
    statistics: DataStatistics | None = None
    held_out: DataStatistics | None = None


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
        CheckpointError: the checkpoint of the run is of another one, or damaged, or cannot be written; or there is one,
            and the run is not to be saved.
        NotEnoughSpaceError: the disk is full.
        TrainingError: a number was none and is to stop the run, or the audit failed.
    """
    config = run.config
    state, folder = run.state, local_folder(config)
    with contextlib.ExitStack() as closing:
        checkpoints = None
        if config.checkpoint.mode != "off":
            from gptoss_train.checkpoints import Checkpoints  # Orbax takes a second, and not every run is saved

            checkpoints = Checkpoints(run_folder(config), config.checkpoint)
            closing.callback(checkpoints.close)
            saved = checkpoints.latest()
            if saved is not None:
                check_same_run(saved, run, where=f"{checkpoints.folder}/{saved.step}")
                state, position = checkpoints.restore(saved.step, state)
                batches.set_state(position)
                say(f"goes on after step {int(state.step)}")
        else:
            check_not_saved(config)
        first_step = int(state.step)
        sinks: list[MetricSink] = []
        if jax.process_index() == 0:
            sinks.append(MetricsFile(folder / "metrics.jsonl", after_step=first_step))
            closing.callback(sinks[0].close)
            write_durably(folder / "config.yaml", config_as_yaml(config).encode())
            sinks.append(_BeginningNoted(folder, first_step))
            for sink in (*open_sinks(config, folder, after_step=first_step), ProgressBar(config.steps)):
                sinks.append(sink)
                closing.callback(sink.close)
        with stop_requests() as request:
            return _steps(run, state, batches, checkpoints, evaluation, sinks, request, say)


def _steps(
    run: Run,
    state: TrainState,
    batches: BatchIterator,
    checkpoints: "Checkpoints | None",
    evaluation: Evaluation | None,
    sinks: list[MetricSink],
    request: StopRequest,
    say: Callable[[str], object],
) -> Outcome:
    config = run.config
    identity = {"method": run.method, "config": config_as_yaml(config), "geometry": run.geometry.numbers()}
    first_step = int(state.step)
    audit = Audit(run.frozen) if run.method == "lora" and first_step < config.lora.audit_steps else None
    audited: AuditResult | None = None
    failure: TrainingError | None = None
    losses: list[float | None] = []
    evaluated: float | None = None
    received: Signals | None = None
    make_step: Step | None = None
    is_out_of_data = False
    counts, held_out_counts = SampleCounts(batches, say), SampleCounts(evaluation, say, is_held_out=True)
    for step in range(first_step + 1, config.steps + 1):
        started = time.perf_counter()
        try:
            with request.waiting() if hasattr(batches, "get_state_after") else contextlib.nullcontext():
                batch = next(batches)
        except StopIteration:
            is_out_of_data = True
            say(f"the data ended after {step - 1} of {config.steps} steps; data.epochs: null goes on without end")
            break
        except WaitEnded as ended:
            received = ended.signal
            break
        counts.note()
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
        line |= counts.metrics()
        losses.append(line["loss"])
        is_last = step == config.steps
        if not bool(report.is_applied):
            failure = _on_nonfinite(state, run, report, step, say)
        elif audit is not None:
            audit.watch(report)
        if audit is not None and (is_last or audit.steps == config.lora.audit_steps):
            audited = _audited(audit, run, say)
            audit = None
        if evaluation is not None and not failure and (is_last or step % config.evaluation.every == 0):
            evaluated = evaluation.loss(state.parameters, run)
            line["evaluation_loss"] = json_number(evaluated)
            line |= held_out_counts.metrics()
            held_out_counts.note()
        for sink in sinks:
            sink.write(line)
        received = request.wanted()
        if checkpoints is not None and (checkpoints.is_due(step) or is_last):
            checkpoints.save(state, _position(batches, learnt=step - first_step), identity)
        if failure or received:
            break
    done = int(state.step)
    if (is_out_of_data or failure or received) and checkpoints is not None and done > first_step:
        checkpoints.save(state, _position(batches, learnt=done - first_step), identity)
    if received and not failure:
        say(f"stopped by {received.name} after step {done}" + (", saved" if checkpoints is not None and done else ""))
    if checkpoints is not None:
        checkpoints.wait()
    if failure:
        raise failure
    return Outcome(
        state=state,
        first_step=first_step,
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        evaluation=evaluated,
        signal=received,
        audit=audited,
        is_out_of_data=is_out_of_data,
        statistics=counts.statistics,
        held_out=held_out_counts.statistics,
    )


def _position(batches: BatchIterator, *, learnt: int) -> dict[str, Any]:
    """Behind the batches that were learnt from: a last one may have been broken off, or may have come with a signal."""
    after: Callable[[int], dict[str, Any]] | None = getattr(batches, "get_state_after", None)
    return batches.get_state() if after is None else after(learnt)


def _on_nonfinite(
    state: TrainState, run: Run, report: StepReport, step: int, say: Callable[[str], object]
) -> TrainingError | None:
    """What ends the run after a step that was left out; None where it goes on."""
    what = origin_of(report, state.parameters, run.frozen)
    if run.config.optimizer.nonfinite == "stop":
        return TrainingError(
            f"{what} in step {step}",
            found=f"loss {float(report.loss)}",
            fix="Lower optimizer.learning_rate or optimizer.clip_norm, raise optimizer.warmup_steps, or leave such "
            "steps out with optimizer.nonfinite=skip.",
        )
    say(f"step {step} left out: {what}")
    return None


def _audited(audit: Audit, run: Run, say: Callable[[str], object]) -> AuditResult | None:
    """What the audit found; None where too few steps were applied for it to find anything."""
    if audit.steps < FEWEST_STEPS:
        say(f"no audit: of the steps only {audit.steps} counted, and it takes {FEWEST_STEPS} to see every factor move")
        return None
    found = audit.result(run.frozen)
    found.require()
    say(found.sentence())
    return found


class _BeginningNoted:
    """Notes in `events.jsonl` that the run began or went on, when its first step is done and not before."""

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / "events.jsonl"
        self._event: dict[str, Any] | None = {
            "event": "resume" if step else "start",
            "step": step,
            "time": time.time(),
        }

    def write(self, _line: Mapping[str, Any]) -> None:
        """Takes a step's line for the sign that it is done."""
        if self._event is not None:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(self._event) + "\n")
            self._event = None

    def close(self) -> None:
        """Nothing is left to do."""
