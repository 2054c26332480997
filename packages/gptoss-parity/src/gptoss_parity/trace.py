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
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from gptoss_weights import CheckpointError, GptOssConfig
from gptoss_weights.durable_files import replaced_file
from safetensors import SafetensorError, safe_open

from gptoss_parity.probe_names import ProbeName, parse_probe_name

__all__ = ["Trace", "TraceMetadata", "load_trace", "save_trace"]

FILE_FORMAT = "gptoss-trace/1"
TOKENS = "tokens"
_HEADER_ALIGNMENT = 8  # bytes, as the safetensors library pads its headers
_LENGTH_BYTES = 8  # little-endian length of the header
_LOOKED_AT_BYTES = 64
# First bytes, lower-cased and without leading space → what the file is instead.
_IMPOSTORS: Mapping[bytes, str] = {
    b"version https://git-lfs": "a Git-LFS pointer",
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
}
_STORED_DTYPES: Mapping[str, np.dtype] = {"F32": np.dtype("<f4"), "I32": np.dtype("<i4"), "I64": np.dtype("<i8")}
_FOREIGN_DTYPES: Mapping[str, np.dtype] = {"F64": np.dtype("<f8"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


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
    tensors = {TOKENS: trace.tokens, **trace.arrays}
    stored_names = {dtype: name for name, dtype in _STORED_DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": trace.metadata.to_strings()}
    offset = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": stored_names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % _HEADER_ALIGNMENT)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as stream:
        stream.write(len(encoded).to_bytes(_LENGTH_BYTES, "little"))
        stream.write(encoded)
        for array in tensors.values():
            stream.write(np.ascontiguousarray(array).data)


def load_trace(path: Path) -> Trace:
    """Opens a trace; its arrays are read-only and memory-mapped.

    Raises:
        CheckpointError: not a safetensors file, another format, no tokens, a name that is no probe's,
            a number that float32 cannot hold, or shapes that contradict each other.
    """
    header = _read_header(path)
    metadata = TraceMetadata.from_strings(header.pop("__metadata__", {}), where=str(path))
    arrays = _map_arrays(path, header)
    tokens = arrays.pop(TOKENS, None)
    if tokens is None:
        raise CheckpointError(
            "the trace does not say which tokens it was recorded from",
            where=path,
            expected=f"a tensor {TOKENS!r}",
            found=", ".join(list(arrays)[:4]) or "no tensor at all",
        )
    return Trace(tokens, arrays, metadata, where=str(path))


def _read_header(path: Path) -> dict[str, Any]:
    """The header as JSON, after the safetensors library found it sound: bounds, overlaps, gaps."""
    if not path.is_file():
        raise CheckpointError("there is no such trace file", where=path)
    _refuse_impostors(path)
    try:
        with safe_open(path, framework="numpy") as checked:
            checked.keys()
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"not a readable safetensors file ({error})", where=path) from None
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        header: dict[str, Any] = json.loads(stream.read(length))
    return header


def _refuse_impostors(path: Path) -> None:
    """Says in words what a download often leaves in a trace's place."""
    with path.open("rb") as stream:
        start = stream.read(_LOOKED_AT_BYTES).lstrip().lower()
    for prefix, what in _IMPOSTORS.items():
        if start.startswith(prefix):
            raise CheckpointError(f"the file is {what}, not a trace", where=path, fix="Download it again.")


def _map_arrays(path: Path, header: Mapping[str, Any]) -> dict[str, np.ndarray]:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    dtypes = {**_STORED_DTYPES, **_FOREIGN_DTYPES}
    unknown = {name: entry["dtype"] for name, entry in header.items() if entry["dtype"] not in dtypes}
    if unknown:
        name, dtype = next(iter(unknown.items()))
        raise CheckpointError("a tensor of this dtype is no probe", where=f"{path}: {name}", found=dtype)
    arrays = {}
    for name, entry in header.items():
        begin, end = (length + _LENGTH_BYTES + at for at in entry["data_offsets"])
        array = np.frombuffer(memoryview(mapped)[begin:end], dtypes[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        arrays[name] = array
    return arrays


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
