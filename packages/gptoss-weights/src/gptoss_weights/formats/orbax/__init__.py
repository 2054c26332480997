"""MaxText's Orbax trees, scanned over pairs of layers and unscanned, read and written through TensorStore.

An Orbax checkpoint is a folder, here or behind a URL, of one TensorStore array a leaf, and JSON files
that name the leaves. So neither Orbax nor JAX is needed: TensorStore alone, extra `[orbax]`.
"""

from gptoss_weights.formats.orbax.location import is_orbax
from gptoss_weights.formats.orbax.reader import open_orbax
from gptoss_weights.formats.orbax.writer import plan_orbax_sizes, write_orbax

__all__ = ["is_orbax", "open_orbax", "plan_orbax_sizes", "write_orbax"]
