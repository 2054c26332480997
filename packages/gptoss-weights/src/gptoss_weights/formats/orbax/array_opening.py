"""Opens one TensorStore array of a tree, whichever way Orbax has stored it."""

from typing import TYPE_CHECKING, Any

from gptoss_weights.formats.orbax.backend import load_tensorstore, shared_context
from gptoss_weights.formats.orbax.location import Location
from gptoss_weights.formats.orbax.metadata import Tree

if TYPE_CHECKING:
    import tensorstore

__all__ = ["database_spec", "open_array"]


def open_array(
    item: Location, tree: Tree, key: str, *, context: "tensorstore.Context | None" = None
) -> "tensorstore.Future[tensorstore.TensorStore]":
    """Begins to open the array of a leaf; its metadata is read, and no chunk.

    Args:
        item: The folder of the tree.
        tree: What its `_METADATA` says.
        key: Name of the leaf's folder: its keys, with dots between.
        context: By default the one for all, which caches nothing.
    """
    kvstore = database_spec(item) if tree.is_ocdbt else item.kvstore()
    spec = {
        "driver": "zarr3" if tree.is_zarr3 else "zarr",
        "kvstore": {**kvstore, "path": f"{kvstore['path']}{key}/"},
        "fill_missing_data_reads": not tree.has_every_chunk,
        # What an earlier checkpoint that is still open has cached may have been replaced on disk since.
        "recheck_cached_data": "open",
        "recheck_cached_metadata": "open",
    }
    opened: tensorstore.Future[tensorstore.TensorStore] = load_tensorstore().open(
        spec, open=True, read=True, context=context or shared_context()
    )
    return opened


def database_spec(item: Location) -> dict[str, Any]:
    """The key-value store that holds all arrays of a tree in one database."""
    return {"driver": "ocdbt", "base": item.kvstore(), "path": ""}
