"""Trace: what one implementation computed for one prompt, probe name → array, and where it comes from.

On disk a trace is a safetensors file whose tensors carry the names and shapes of
`gptoss_weights.probes`: `tokens [T]`, `embedding [T,D]`, `layers.{i}.attention_residual [T,D]`,
`layers.{i}.router_logits [T,E]`, `layers.{i}.router_indices [T,k]` (best first),
`layers.{i}.router_weights [T,k]`, `layers.{i}.output [T,D]`, `final_norm [T,D]`, `logits [T,V]`.

Floats are float32, in memory and on disk: a bfloat16 or float16 run is upcast, which is exact, and
`metadata.dtype` says what it was computed in. Tokens are int64 and expert indices int32. The file
lists metadata and tensors in a fixed order, so that equal traces are equal files; a loaded trace is
memory-mapped, so that its size costs nothing before it is looked at.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from gptoss_weights import CheckpointError, GptOssConfig

from gptoss_parity.probe_names import ProbeName, parse_probe_name
from gptoss_parity.tensor_files import read_tensors, write_tensors

__all__ = ["Trace", "TraceMetadata", "load_trace", "save_trace"]

FILE_FORMAT = "gptoss-trace/1"
TOKENS = "tokens"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TraceMetadata:
    """Where a trace comes from; all of it is shown in reports, `dtype` also decides how to compare.

    Attributes:
        source: Name of the implementation, e.g. `openai-torch`.
        dtype: What it computed in, `float32` or `bfloat16`.
        checkpoint_digest: `Checkpoint.digest()` of the weights.
        config: Geometry of the model.
        versions: Distribution → version of everything that could change a number.
        options: Further choices of the source, e.g. its strategy for experts.
        command: The command that records this trace again.
        is_partial: Whether the source knows only some of the probes, e.g. nothing but logits; what it
            lacks is then named and not counted against it.
    """

    source: str
    dtype: str
    checkpoint_digest: str | None = None
    config: GptOssConfig | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    options: Mapping[str, str] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    command: str | None = None
    is_partial: bool = False

    def to_strings(self) -> dict[str, str]:
        """As the metadata of a safetensors file, which knows strings only."""
        strings = {"format": FILE_FORMAT, "source": self.source, "dtype": self.dtype}
        if self.checkpoint_digest is not None:
            strings["checkpoint_digest"] = self.checkpoint_digest
        if self.config is not None:
            strings["config"] = json.dumps(self.config.numbers())
        if self.is_partial:
            strings["partial"] = "true"
        strings["versions"] = json.dumps(dict(sorted(self.versions.items())))
        strings["options"] = json.dumps(dict(sorted(self.options.items())))
        if self.command is not None:
            strings["command"] = self.command
        return strings

    @staticmethod
    def from_strings(strings: Mapping[str, str], *, where: str) -> "TraceMetadata":
        """Reads what `to_strings` wrote; a file of other origin may lack any of it.

        Raises:
            CheckpointError: the format is another, or a value that should be JSON is not.
        """
        if strings.get("format", FILE_FORMAT) != FILE_FORMAT:
            raise CheckpointError(
                "the file is no trace of a format that this version reads",
                where=where,
                expected=f"metadata format {FILE_FORMAT!r}",
                found=repr(strings["format"]),
                fix="A trace from a newer version needs a newer gptoss-parity.",
            )
        config = _json_object(strings, "config", where) if "config" in strings else None
        return TraceMetadata(
            source=strings.get("source", "unknown"),
            dtype=strings.get("dtype", "float32"),
            checkpoint_digest=strings.get("checkpoint_digest"),
            config=None if config is None else GptOssConfig.from_json(config, where=f"{where}: metadata config"),
            versions={name: str(value) for name, value in _json_object(strings, "versions", where).items()},
            options={name: str(value) for name, value in _json_object(strings, "options", where).items()},
            command=strings.get("command"),
            is_partial=strings.get("partial") == "true",
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Trace(Mapping[str, np.ndarray]):
    """Tokens [T] int64 and, by probe name in the order of the forward pass, what was computed from them.

    A trace need not hold every probe: what a comparison misses is for the comparison to say.

    Raises:
        CheckpointError: a name is no probe's, or the shapes contradict each other or the config.
    """

    tokens: np.ndarray
    arrays: Mapping[str, np.ndarray]
    metadata: TraceMetadata
    where: str = "trace"

    def __post_init__(self) -> None:
        tokens = np.asarray(self.tokens)
        names = _known_names(self.arrays, self.where)
        _check_shapes(tokens, self.arrays, names, self.metadata.config, self.where)
        ordered = sorted(names, key=lambda name: names[name].order)
        arrays = {
            name: _normalized(self.arrays[name], is_integer=names[name].is_integer, where=f"{self.where}: {name}")
            for name in ordered
        }
        object.__setattr__(self, "tokens", tokens.astype(np.int64, copy=False))
        object.__setattr__(self, "arrays", MappingProxyType(arrays))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def with_command(self, command: str) -> "Trace":
        """The same trace, whose metadata say how to record it again."""
        return dataclasses.replace(self, metadata=dataclasses.replace(self.metadata, command=command))

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that any probe belongs to, ascending."""
        layers = {parsed.layer for parsed in map(parse_probe_name, self.arrays) if parsed is not None}
        return tuple(sorted(layer for layer in layers if layer is not None))


def save_trace(trace: Trace, path: Path) -> None:
    """Writes a trace as a safetensors file; `path` appears whole or not at all."""
    write_tensors(path, trace.metadata.to_strings(), {TOKENS: trace.tokens, **trace.arrays})


def load_trace(path: Path) -> Trace:
    """Opens a trace; its arrays are read-only and memory-mapped.

    Raises:
        CheckpointError: not a safetensors file, another format, no tokens, a name that is no probe's,
            a number that float32 cannot hold, or shapes that contradict each other.
    """
    strings, arrays = read_tensors(path)
    metadata = TraceMetadata.from_strings(strings, where=str(path))
    tokens = arrays.pop(TOKENS, None)
    if tokens is None:
        raise CheckpointError(
            "the trace does not say which tokens it was recorded from",
            where=path,
            expected=f"a tensor {TOKENS!r}",
            found=", ".join(list(arrays)[:4]) or "no tensor at all",
        )
    return Trace(tokens, arrays, metadata, where=str(path))


def _known_names(arrays: Mapping[str, np.ndarray], where: str) -> dict[str, ProbeName]:
    names = {name: parse_probe_name(name) for name in arrays}
    unknown = [name for name, parsed in names.items() if parsed is None or name == TOKENS]
    if unknown:
        raise CheckpointError(
            "no probe has this name",
            where=f"{where}: {unknown[0]}",
            expected="a name from gptoss_weights.probes",
            fix="A trace from a newer version needs a newer gptoss-parity.",
        )
    return {name: parsed for name, parsed in names.items() if parsed is not None}


def _check_shapes(
    tokens: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    names: Mapping[str, ProbeName],
    config: GptOssConfig | None,
    where: str,
) -> None:
    """Every axis letter must have one extent throughout, and the config's where there is a config."""
    if tokens.ndim != 1 or not len(tokens) or not np.issubdtype(tokens.dtype, np.integer):
        raise CheckpointError(
            "tokens are not one row of at least one integer",
            where=where,
            found=f"{tokens.dtype} of shape {tokens.shape}",
        )
    extents: dict[str, tuple[int, str]] = {"T": (len(tokens), TOKENS)}
    if config is not None:
        sizes = {"D": config.hidden_size, "E": config.num_experts, "V": config.vocab_size}
        extents |= {axis: (size, "the config") for axis, size in sizes.items()}
        extents["k"] = (config.experts_per_token, "the config")
    for name, parsed in names.items():
        array = arrays[name]
        if array.ndim != len(parsed.axes):
            expected = f"{len(parsed.axes)} axes [{','.join(parsed.axes)}]"
            raise CheckpointError(
                "wrong number of axes", where=f"{where}: {name}", expected=expected, found=f"shape {array.shape}"
            )
        if parsed.is_integer != np.issubdtype(array.dtype, np.integer):
            expected = "integers" if parsed.is_integer else "floating-point numbers"
            raise CheckpointError(
                "wrong kind of number", where=f"{where}: {name}", expected=expected, found=array.dtype
            )
        for axis, extent in zip(parsed.axes, array.shape, strict=True):
            known, origin = extents.setdefault(axis, (extent, name))
            if extent != known:
                raise CheckpointError(
                    f"axis {axis} contradicts {origin}", where=f"{where}: {name}", expected=known, found=extent
                )


def _normalized(array: np.ndarray, *, is_integer: bool, where: str) -> np.ndarray:
    """The dtype that traces hold; exact for integers, float32, bfloat16 and float16.

    Raises:
        CheckpointError: a float64 number lies beyond float32, or an expert's beyond int32.
    """
    held = np.dtype(np.int32 if is_integer else np.float32)
    if array.dtype.itemsize <= held.itemsize:
        return array.astype(held, copy=False)
    with np.errstate(over="ignore"):
        converted = array.astype(held)
    is_outside = array != converted if is_integer else np.isfinite(array) & ~np.isfinite(converted)
    if is_outside.any():
        raise CheckpointError(
            f"a number is too large for the {held} that traces hold", where=where, found=array[is_outside][0]
        )
    return converted


def _json_object(strings: Mapping[str, str], name: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(strings.get(name, "{}"))
    except ValueError as error:
        raise CheckpointError(f"metadata {name!r} is not valid JSON ({error})", where=where) from None
    if not isinstance(value, dict):
        raise CheckpointError(f"metadata {name!r} is not a JSON object", where=where, found=type(value).__name__)
    return value
