"""The formats: `open_checkpoint` finds a reader by looking, `save_checkpoint` a writer by name."""

from collections.abc import Callable, Mapping
from pathlib import Path

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.formats.base import Format
from gptoss_weights.formats.impostors import refuse_stray_file
from gptoss_weights.formats.layouts import HUGGINGFACE, HUGGINGFACE_PLAIN, OPENAI, Layout
from gptoss_weights.formats.names import FormatName
from gptoss_weights.formats.orbax.location import is_orbax

__all__ = ["format_named", "open_format"]


def _safetensors(layout: Layout) -> Format:
    from gptoss_weights.formats.safetensors_formats import SafetensorsFormat

    return SafetensorsFormat(layout)


def _flax() -> Format:
    from gptoss_weights.formats.flax_msgpack.format import FlaxFormat

    return FlaxFormat()


def _orbax(*, is_scanned: bool) -> Format:
    from gptoss_weights.formats.orbax.format import OrbaxFormat

    return OrbaxFormat(is_scanned=is_scanned)


_FORMATS: Mapping[FormatName, Callable[[], Format]] = {
    "openai": lambda: _safetensors(OPENAI),
    "hf": lambda: _safetensors(HUGGINGFACE),
    "hf-bf16": lambda: _safetensors(HUGGINGFACE_PLAIN),
    "flax": _flax,
    "orbax-scanned": lambda: _orbax(is_scanned=True),
    "orbax-unscanned": lambda: _orbax(is_scanned=False),
}


def format_named(name: FormatName) -> Format:
    """The format that `save_checkpoint(format=name)` writes.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in _FORMATS:
        raise ValueError(f"no format is called {name!r}; there are {', '.join(_FORMATS)}")
    return _FORMATS[name]()


def open_format(path: Path | str, *, config: Path | None) -> Checkpoint:
    """Opens a path, or a URL of an Orbax tree, with the reader of what lies there.

    Raises:
        CheckpointError: it is nothing that is known here, or it is damaged.
    """
    if is_orbax(path):
        from gptoss_weights.formats.orbax.reader import open_orbax

        return open_orbax(path, config=config)
    place = Path(path)
    if _is_flax(place):
        from gptoss_weights.formats.flax_msgpack.opening import open_flax

        return open_flax(place, config=config)
    if not place.is_dir():
        refuse_stray_file(place)
    from gptoss_weights.formats.safetensors_folder import open_safetensors_folder

    return open_safetensors_folder(place, config=config)


def _is_flax(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.msgpack")) and not any(path.glob("*.safetensors"))
    return path.suffix == ".msgpack"
