"""MaxText's Orbax trees, scanned over pairs of layers and unscanned, read and written through TensorStore.

An Orbax checkpoint is a folder, here or behind a URL, of one TensorStore array a leaf, and JSON files
that name the leaves. So neither Orbax nor JAX is needed: TensorStore alone, extra `[orbax]`. What any such
tree has, ours or not, is open to others: `Location`, `read_tree`, `open_array`, `explained`.
"""

from gptoss_weights.formats.orbax.array_opening import open_array
from gptoss_weights.formats.orbax.backend import explained
from gptoss_weights.formats.orbax.location import Location, is_orbax
from gptoss_weights.formats.orbax.metadata import Tree, read_tree
from gptoss_weights.formats.orbax.reader import open_orbax
from gptoss_weights.formats.orbax.writer import plan_orbax_sizes, write_orbax

__all__ = [
    "Location",
    "Tree",
    "explained",
    "is_orbax",
    "open_array",
    "open_orbax",
    "plan_orbax_sizes",
    "read_tree",
    "write_orbax",
]
