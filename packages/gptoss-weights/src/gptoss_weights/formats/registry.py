"""The formats: `open_checkpoint` finds a reader by looking, `save_checkpoint` a writer by name."""

from collections.abc import Mapping
from pathlib import Path

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.formats.flax_msgpack import open_flax
from gptoss_weights.formats.layouts import HUGGINGFACE, OPENAI, Layout
from gptoss_weights.formats.orbax import is_orbax, open_orbax
from gptoss_weights.formats.safetensors_folder import open_safetensors_folder

__all__ = ["LAYOUTS", "layout_named", "open_format"]

LAYOUTS: Mapping[str, Layout] = {layout.name: layout for layout in (OPENAI, HUGGINGFACE)}


def layout_named(name: str) -> Layout:
    """The layout that `save_checkpoint(format=name)` writes.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in LAYOUTS:
        raise ValueError(f"no format is called {name!r}; there are {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def open_format(path: Path, *, config: Path | None) -> Checkpoint:
    """Opens a path with the reader of what lies there.

    Raises:
        CheckpointError: it is nothing that is known here, or it is damaged.
    """
    if is_orbax(path):
        return open_orbax(path, config=config)
    if path.is_file() or (any(path.glob("*.msgpack")) and not any(path.glob("*.safetensors"))):
        return open_flax(path, config=config)
    return open_safetensors_folder(path, config=config)
