"""Verification: every implementation that is there, each in its own process, against one reference.

The reference runs first, twice if its noise is wanted; then each candidate, and where its experts are
others, once more with the reference's. A graph that cannot be told its experts has the reference run
once more with its own. All that passes between processes are files in the output folder.
"""

import dataclasses
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptoss_weights import MissingDependencyError
from gptoss_weights.cli_errors import ExitCode

from gptoss_parity.compare import Comparison, compare
from gptoss_parity.logits_check import LogitsCheck
from gptoss_parity.noise import Noise, measure_noise
from gptoss_parity.prompts import Prompt
from gptoss_parity.replay import split_divergence
from gptoss_parity.report.content import NotRun, Report
from gptoss_parity.routing import Reach
from gptoss_parity.sources import Dtype, install_command, missing_packages
from gptoss_parity.tolerances import tolerances_between
from gptoss_parity.trace import Trace, load_trace
from gptoss_parity.worker import Job, chooses_otherwise

__all__ = ["SourceRun", "Verification", "verify"]

type Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceRun:
    """One implementation as it is to be run.

    Attributes:
        source: Its name, one of `SOURCES`.
        dtype: What it computes in.
        checkpoint: Path or URL of its weights.
        config: Where their `config.json` stands instead.
        options: Keywords of the source's class.
        command: The command that records one prompt, without `--tokens` and `--output`.
        is_asked_for: Whether the user named it, so that it must not be missing.
    """

    source: str
    dtype: Dtype
    checkpoint: str
    config: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    command: str = ""
    is_asked_for: bool = True

    @property
    def label(self) -> str:
        """How its files are called."""
        return f"{self.source}.{self.dtype}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
    """What is to be compared, and how.

    Attributes:
        title: For the head of the report.
        runs: The reference first, then the candidates.
        prompts: At least one.
        output: A folder for traces.
        block_debug: Whether to look inside attention and experts.
        max_layers: How many layers to keep.
        layerwise: Whether to run a layer at a time.
        replay: Whether to split divergences where experts differ.
        noise: Whether to run the reference twice.
        limits: Values of `Tolerances` in place of the defaults.
        check: Limits for logits that decide alone.
        judge_all: Whether all other limits decide too.
        command: The command that makes the report again.
        seed: What random prompts were drawn with, if they were.
    """

    title: str
    runs: Sequence[SourceRun]
    prompts: Sequence[Prompt]
    output: Path
    block_debug: bool = False
    max_layers: int | None = None
    layerwise: bool = False
    replay: bool = True
    noise: bool = True
    limits: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    check: LogitsCheck | None = None
    judge_all: bool = False
    command: str | None = None
    seed: int | None = None


def verify(verification: Verification, *, progress: Progress = lambda _: None) -> Report:
    """Runs every source that is installed and compares each with the first of them.

    Returns:
        The report; what could not be run stands in it.

    Raises:
        MissingDependencyError: fewer than two sources are installed.
        ChildFailedError: the reference did not run.
    """
    missing = {run.label: missing_packages(run.source) for run in verification.runs}
    not_run = [_not_installed(run, missing[run.label]) for run in verification.runs if missing[run.label]]
    installed = [run for run in verification.runs if not missing[run.label]]
    if len(installed) < 2:
        raise MissingDependencyError(
            "there are no two sources to compare",
            found=f"{installed[0].source!r} alone" if installed else "none that is installed",
            fix=" ".join(problem.sentence for problem in not_run) or "Name a second one.",
        )
    with tempfile.TemporaryDirectory(prefix="gptoss-parity-") as scratch:
        return _Runs(verification, Path(scratch), progress).report(installed, not_run)


class ChildFailedError(Exception):
    """A source's process ended with an error; it carries the exit code and the sentence that it printed."""

    def __init__(self, code: int, sentence: str) -> None:
        self.code, self.sentence = code, sentence
        super().__init__(sentence)


class _Runs:
    """The runs of one verification: `scratch` holds what only serves to compare."""

    def __init__(self, verification: Verification, scratch: Path, progress: Progress) -> None:
        self.verification, self.scratch, self.progress = verification, scratch, progress
        self.reference: list[Trace] = []

    def report(self, installed: Sequence[SourceRun], not_run: list[NotRun]) -> Report:
        verification = self.verification
        first, *others = installed
        again = [self.scratch / f"again.{place}" for place in range(len(verification.prompts))]
        self._record(first, again=again if verification.noise else ())
        self.reference = self._traces(first)
        noises = self._noises(first, again)
        comparisons: list[Comparison] = []
        for run in others:
            replayed = [self.scratch / f"{run.label}.replayed.{place}" for place in range(len(verification.prompts))]
            references = self._paths(first) if verification.replay else []
            try:
                self._record(run, references=references, replayed=replayed)
            except ChildFailedError as failure:
                not_run.append(NotRun(name=run.source, code=failure.code, sentence=failure.sentence, is_asked_for=True))
                continue
            compared = [self._compared(run, place, noises[place]) for place in range(len(verification.prompts))]
            comparisons += self._split(first, run, compared, replayed) if verification.replay else compared
        return Report(
            title=verification.title,
            comparisons=comparisons,
            command=verification.command,
            not_run=tuple(not_run),
            seed=verification.seed,
            prompts=tuple(prompt.text for prompt in verification.prompts),
        )

    def _compared(self, run: SourceRun, place: int, noise: tuple[Noise, ...]) -> Comparison:
        verification = self.verification
        reference, candidate = self.reference[place], self._traces(run)[place]
        tolerances = tolerances_between(reference.metadata, candidate.metadata)
        comparison = compare(
            reference,
            candidate,
            tolerances.replace(**verification.limits),
            check=verification.check,
            judge_all=verification.judge_all,
        )
        prompt = place + 1 if len(verification.prompts) > 1 else None
        return dataclasses.replace(comparison, noise=noise, prompt=prompt)

    def _split(
        self, first: SourceRun, run: SourceRun, comparisons: Sequence[Comparison], replayed: Sequence[Path]
    ) -> list[Comparison]:
        """Each comparison with its divergence split, where experts differ; a side that cannot replay has the other."""
        differ = [chooses_otherwise(c.reference, c.candidate) for c in comparisons]
        forces_reference = any(d and not p.exists() for d, p in zip(differ, replayed, strict=True))
        if forces_reference:
            replayed = [path.with_name(f"reference.{path.name}") for path in replayed]
            self._record(
                first, references=self._paths(run), replayed=replayed, traces=[self.scratch / "rerun"] * len(replayed)
            )
        result = []
        for comparison, path in zip(comparisons, replayed, strict=True):
            if not path.exists():
                result.append(comparison)
                continue
            reach = comparison.routing.reach_at(None, "logits", len(comparison.tokens))
            split = split_divergence(
                comparison.reference,
                comparison.candidate,
                load_trace(path),
                forced="reference" if forces_reference else "candidate",
                is_affected=reach != Reach.CLEAN,
            )
            result.append(dataclasses.replace(comparison, split=split))
        return result

    def _noises(self, first: SourceRun, again: Sequence[Path]) -> list[tuple[Noise, ...]]:
        verification = self.verification
        if not verification.noise:
            return [()] * len(verification.prompts)
        finer: list[Trace] = []
        if first.dtype == "bfloat16":
            paths = [self.scratch / f"finer.{place}" for place in range(len(verification.prompts))]
            self._record(dataclasses.replace(first, dtype="float32"), traces=paths)
            finer = [load_trace(path) for path in paths]
        noises = []
        for place, trace in enumerate(self.reference):
            noise = [measure_noise(trace, load_trace(again[place]), "run again")]
            noise += [measure_noise(trace, finer[place], "in float32")] if finer else []
            noises.append(tuple(noise))
        return noises

    def _record(
        self,
        run: SourceRun,
        *,
        traces: Sequence[Path] | None = None,
        again: Sequence[Path] = (),
        references: Sequence[Path] = (),
        replayed: Sequence[Path] = (),
    ) -> None:
        verification = self.verification
        rows = [",".join(map(str, prompt.tokens)) for prompt in verification.prompts]
        paths = self._paths(run) if traces is None else traces
        inner = " --block-debug" if verification.block_debug else ""
        job = Job(
            source=run.source,
            options=dict(run.options),
            checkpoint=run.checkpoint,
            config=run.config,
            dtype=run.dtype,
            prompts=[prompt.tokens for prompt in verification.prompts],
            traces=[str(path) for path in paths],
            commands=[
                f"{run.command}{inner} --tokens {row} --output {path.name}"
                for row, path in zip(rows, paths, strict=True)
            ],
            block_debug=verification.block_debug,
            max_layers=verification.max_layers,
            layerwise=verification.layerwise,
            again=[str(path) for path in again],
            reference=[str(path) for path in references],
            replayed=[str(path) for path in replayed] if references else [],
        )
        self.progress(f"{run.source} in {run.dtype}")
        file = self.scratch / "job.json"
        file.write_text(job.to_json())
        _run_child(file, run.source)

    def _paths(self, run: SourceRun) -> list[Path]:
        folder = self.verification.output / "traces"
        count = len(self.verification.prompts)
        return [folder / f"{run.label}{f'.{place + 1}' if count > 1 else ''}.safetensors" for place in range(count)]

    def _traces(self, run: SourceRun) -> list[Trace]:
        return [load_trace(path) for path in self._paths(run)]


def _run_child(job: Path, source: str) -> None:
    """Waits for a process that does a job.

    Raises:
        ChildFailedError: it ended with an error or was killed.
    """
    command = [sys.executable, "-m", "gptoss_parity.worker", str(job)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == ExitCode.OK:
        return
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        is_memory = -done.returncode == signal.SIGKILL
        hint = (
            ", as the system does when memory runs out. Run it with --layerwise or fewer --max-layers"
            if is_memory
            else ""
        )
        code = ExitCode.NOT_ENOUGH_SPACE if is_memory else ExitCode.INTERNAL_ERROR
        raise ChildFailedError(code, f"the process of source {source!r} was ended by {name}{hint}")
    errors = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
    sentence = errors[-1] if errors else (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    raise ChildFailedError(done.returncode, sentence)


def _not_installed(run: SourceRun, missing: Sequence[str]) -> NotRun:
    packages = " and ".join(repr(package) for package in missing)
    sentence = f"source {run.source!r} lacks {packages}; install it with: {install_command(run.source)}"
    return NotRun(name=run.source, code=ExitCode.MISSING_DEPENDENCY, sentence=sentence, is_asked_for=run.is_asked_for)
