"""One source in a process of its own: `python -m gptoss_parity.worker JOB`, which `verify` starts.

A model's memory is returned to the machine when its process ends, and what brings down one
implementation leaves the others running. A job is a JSON file; traces are files too.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from gptoss_weights.cli_errors import ErrorMappingGroup

from gptoss_parity.sources import Dtype, LoadingSource, make_source
from gptoss_parity.trace import Trace, load_trace, save_trace

__all__ = ["Job", "record_job"]

_CHOICES = "router_indices"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What one process records.

    Attributes:
        source: Name of the source, one of `SOURCES`.
        options: The keywords of its class.
        checkpoint: Path or URL.
        config: Where its `config.json` stands instead.
        dtype: What to compute in.
        prompts: Token ids.
        traces: A file to write for each prompt.
        commands: For each prompt, how its trace is recorded again.
        block_debug: Whether to look inside attention and experts.
        max_layers: How many layers to keep.
        layerwise: Whether to run a layer at a time.
        again: A file for a second run of each prompt, or nothing.
        reference: Traces whose experts to take where this source's own choice differs, or nothing.
        replayed: A file for each prompt that is run with the experts of its reference.
    """

    source: str
    options: Mapping[str, Any]
    checkpoint: str
    dtype: Dtype
    prompts: list[list[int]]
    traces: list[str]
    commands: list[str]
    config: str | None = None
    block_debug: bool = False
    max_layers: int | None = None
    layerwise: bool = False
    again: list[str] = dataclasses.field(default_factory=list)
    reference: list[str] = dataclasses.field(default_factory=list)
    replayed: list[str] = dataclasses.field(default_factory=list)

    def to_json(self) -> str:
        """The job as a file's content."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> "Job":
        """What `to_json` wrote."""
        return Job(**json.loads(text))


def record_job(job: Job) -> None:
    """Records every trace of a job.

    Raises:
        GptOssError: as opening a checkpoint, loading and recording do.
    """
    from gptoss_weights import CheckpointError, open_checkpoint, trimmed

    source = make_source(job.source, **_with_paths(job.options))
    assert isinstance(source, LoadingSource), "golden files are no sources of a job"
    source = _layerwise(source) if job.layerwise else source
    checkpoint = open_checkpoint(job.checkpoint, config=None if job.config is None else Path(job.config))
    if job.max_layers is not None and job.max_layers < checkpoint.config.num_hidden_layers:
        checkpoint = trimmed(checkpoint, layers=job.max_layers)
    try:
        runner = source.load(checkpoint, dtype=job.dtype)
    except ValueError as error:  # an option that does not go with this checkpoint
        raise CheckpointError(str(error), where=f"source {job.source}") from None
    for place, tokens in enumerate(job.prompts):
        trace = runner.run(tokens, block_debug=job.block_debug).with_command(job.commands[place])
        save_trace(trace, Path(job.traces[place]))
        if job.again:
            save_trace(runner.run(tokens, block_debug=job.block_debug), Path(job.again[place]))
        if job.reference and source.can_replay:
            reference = load_trace(Path(job.reference[place]))
            if chooses_otherwise(reference, trace):
                replayed = runner.run(tokens, block_debug=job.block_debug, choices=reference)
                save_trace(replayed, Path(job.replayed[place]))


def chooses_otherwise(reference: Trace, candidate: Trace) -> bool:
    """Whether a token went through other experts, or the same in another order, and both traces say which."""
    names = [name for name in reference if name.endswith(_CHOICES)]
    if not names or any(name not in candidate for name in names):
        return False
    return any((reference[name] != candidate[name]).any() for name in names)


def _layerwise(source: LoadingSource) -> LoadingSource:
    from gptoss_parity.layerwise import LayerwiseSource

    return LayerwiseSource(source)


def _with_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Path(value) if name == "folder" and value is not None else value for name, value in options.items()}


@click.group(cls=ErrorMappingGroup)
def main() -> None:
    """Records traces in a process of its own."""


@main.command()
@click.argument("job", type=click.Path(path_type=Path))
def run(job: Path) -> None:
    """Record what JOB says."""
    record_job(Job.from_json(job.read_text()))


if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
