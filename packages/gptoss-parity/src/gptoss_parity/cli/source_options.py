"""The options that say how each implementation is run, the same for `verify` and `record`."""

import dataclasses
import functools
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from gptoss_weights.cli_parameters import CHECKPOINT_PATH

from gptoss_parity.sources import DTYPES, SOURCES, Dtype

if TYPE_CHECKING:
    from gptoss_parity.verification import SourceRun

__all__ = ["SourceChoice", "SourceSettings", "source_options", "sources_callback"]

_SINGLE_DTYPE = ("onnx", "numpy")  # float32 and nothing else
_WITH_OPTIONS = ("torch", "hf", "jax", "onnx")  # sources that options begin with


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceChoice:
    """A source as it stands in `--sources`."""

    name: str
    dtype: Dtype | None
    is_asked_for: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """The options of `source_options`."""

    dtype: Dtype
    torch_dtype: Dtype | None
    hf_dtype: Dtype | None
    jax_dtype: Dtype | None
    torch_device: str
    torch_checkpoint: Path | str | None
    hf_checkpoint: Path | str | None
    jax_checkpoint: Path | str | None
    onnx_checkpoint: Path | str | None
    jax_moe: str
    jax_attention: str
    jax_experts: str
    jax_scan_layers: bool
    jax_mesh: str | None
    onnx: Path | None
    onnx_threads: int | None
    onnx_profile: str
    onnx_mode: str

    def options(self, source: str) -> dict[str, Any]:
        """Keywords of the source's class, as JSON knows them; only what differs from its defaults."""
        given: dict[str, dict[str, tuple[Any, Any]]] = {
            "torch": {"device": (self.torch_device, "cpu")},
            "hf": {"device": (self.torch_device, "cpu")},
            "jax": {
                "moe": (self.jax_moe, "auto"),
                "attention": (self.jax_attention, "auto"),
                "experts": (self.jax_experts, "stored"),
                "scan_layers": (self.jax_scan_layers, False),
                "mesh": (self.jax_mesh, None),
            },
            "onnx": {
                "folder": (None if self.onnx is None else str(self.onnx), None),
                "threads": (self.onnx_threads, None),
                "profile": (self.onnx_profile, "portable"),
                "mode": (self.onnx_mode, "exact"),
            },
        }
        return {name: value for name, (value, default) in given.get(source, {}).items() if value != default}

    def keywords(self, source: str) -> dict[str, Any]:
        """The same with paths as paths, for a class in this process."""
        options = self.options(source)
        return options | {"folder": Path(options["folder"])} if "folder" in options else options

    def dtype_of(self, choice: SourceChoice) -> Dtype:
        """What a source computes in: as written behind its name, as its own option says, or as `--dtype`."""
        if choice.dtype is not None:
            return choice.dtype
        if choice.name in _SINGLE_DTYPE:
            return "float32"
        return getattr(self, f"{choice.name}_dtype") or self.dtype

    def checkpoint_of(self, source: str, common: Path | str) -> Path | str:
        """A source's own checkpoint, or the common one."""
        return getattr(self, f"{source}_checkpoint", None) or common

    def run(
        self, choice: SourceChoice, checkpoint: str, config: str | None, *, max_layers: int | None, layerwise: bool
    ) -> "SourceRun":
        """The source as it is to be run on its own checkpoint, or on the common one."""
        from gptoss_parity.verification import SourceRun

        place, dtype = str(self.checkpoint_of(choice.name, checkpoint)), self.dtype_of(choice)
        config = config if place == checkpoint else None
        words = ["gptoss-parity", "record", place, "--source", choice.name, "--dtype", dtype]
        words += self._words(choice.name)
        words += [] if config is None else ["--config", config]
        words += [] if max_layers is None else ["--max-layers", str(max_layers)]
        words += ["--layerwise"] if layerwise else []
        return SourceRun(
            source=choice.name,
            dtype=dtype,
            checkpoint=place,
            config=config,
            options=self.options(choice.name),
            command=shlex.join(words),
            is_asked_for=choice.is_asked_for,
        )

    def _words(self, source: str) -> list[str]:
        """The source's options as they are written on a command line."""
        flags = {"device": "--torch-device", "folder": "--onnx", "threads": "--onnx-threads"}
        words: list[str] = []
        for name, value in self.options(source).items():
            flag = flags.get(name, f"--{source}-{name.replace('_', '-')}")
            words += [flag] if value is True else [flag, str(value)]
        return words


_DTYPE = click.Choice(DTYPES)
_OPTIONS = (
    click.option("--dtype", type=_DTYPE, default="float32", show_default=True,
                 help="What to compute in; ONNX and NumPy compute in float32 whatever is said here."),
    click.option("--torch-dtype", type=_DTYPE, help="The same for the official PyTorch code alone."),
    click.option("--hf-dtype", type=_DTYPE, help="The same for transformers alone."),
    click.option("--jax-dtype", type=_DTYPE, help="The same for JAX alone."),
    click.option("--torch-device", default="cpu", show_default=True, metavar="DEVICE",
                 help="Where PyTorch runs, transformers too: cpu, cuda:0, …"),
    click.option("--torch-checkpoint", type=CHECKPOINT_PATH, help="A checkpoint of its own for PyTorch."),
    click.option("--hf-checkpoint", type=CHECKPOINT_PATH, help="… for transformers, such as a bf16 folder."),
    click.option("--jax-checkpoint", type=CHECKPOINT_PATH, help="… for JAX."),
    click.option("--onnx-checkpoint", type=CHECKPOINT_PATH, help="… for ONNX."),
    click.option("--jax-moe", default="auto", show_default=True, metavar="NAME", help="JAX's strategy for experts."),
    click.option("--jax-attention", default="auto", show_default=True, metavar="NAME",
                 help="JAX's strategy for attention."),
    click.option("--jax-experts", type=click.Choice(["stored", "mxfp4", "decoded"]), default="stored",
                 show_default=True, help="The form in which JAX keeps experts."),
    click.option("--jax-scan-layers", is_flag=True, help="JAX's layers as a compiled loop."),
    click.option("--jax-mesh", metavar="RULES", help="JAX on a mesh, such as tensor=2."),
    click.option("--onnx", type=click.Path(path_type=Path, exists=True), metavar="FOLDER",
                 help="An existing export in place of one made now, or another exporter's .onnx file."),
    click.option("--onnx-threads", type=click.IntRange(min=1), help="Threads of ONNX Runtime; one a core by default."),
    click.option("--onnx-profile", type=click.Choice(["portable", "fast"]), default="portable", show_default=True,
                 help="Of the export that is made now: ONNX's own operators, or ONNX Runtime's."),
    click.option("--onnx-mode", type=click.Choice(["exact", "turbo"]), default="exact", show_default=True,
                 help="turbo, for profile fast, rounds activations: parity holds with wider limits only."),
)  # fmt: skip


def source_options[Function: Callable[..., Any]](command: Function) -> Callable[..., Any]:
    """Adds the options; the command gets them as one `settings`."""
    names = [field.name for field in dataclasses.fields(SourceSettings)]

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _refuse_options_of_others(names, _sources_that_run(kwargs))
        settings = SourceSettings(**{name: kwargs.pop(name) for name in names})
        return command(*args, settings=settings, **kwargs)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _sources_that_run(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Of `--source` or `--sources`; those that run by default are the ones that have options."""
    if "source" in arguments:
        return (arguments["source"],)
    return tuple(choice.name for choice in arguments["sources"] or ()) or _WITH_OPTIONS


def _refuse_options_of_others(names: Sequence[str], running: Sequence[str]) -> None:
    """An option of a source that does not run would be accepted and do nothing."""
    context = click.get_current_context()
    for name in names:
        owner = name.partition("_")[0]
        owners = {"torch", "hf"} if name == "torch_device" else {owner}
        is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_given and owner in _WITH_OPTIONS and not owners & set(running):
            flag = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{flag} is for the source {owner!r}, which does not run here.")


def sources_callback(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> list[SourceChoice] | None:
    """`torch,jax:bfloat16` as choices; None where nothing was given."""
    if value is None:
        return None
    choices: list[SourceChoice] = []
    for word in (word.strip() for word in value.split(",")):
        name, _, dtype = word.partition(":")
        if name not in SOURCES:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(SOURCES)}")
        known: dict[str, Dtype] = {spelled: spelled for spelled in DTYPES}
        if dtype and dtype not in known:
            raise click.BadParameter(f"{dtype!r} is not one of {', '.join(DTYPES)}")
        if name in _SINGLE_DTYPE and dtype == "bfloat16":
            raise click.BadParameter(f"the source {name!r} computes in float32 only")
        choice = SourceChoice(name=name, dtype=known[dtype] if dtype else None, is_asked_for=True)
        if choice in choices:
            raise click.BadParameter(f"{word!r} stands there twice")
        choices.append(choice)
    return choices
