"""The JSON files of an Orbax item: `_METADATA` names the leaves, `_CHECKPOINT_METADATA` who reads them.

Source: google/orbax 0.12.8, checkpoint/_src/metadata/tree.py and step_metadata_serialization.py.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.orbax.location import OCDBT_MANIFEST, TREE_METADATA, Location
from gptoss_weights.json_files import parse_json_object
from gptoss_weights.wording import shown

__all__ = ["Tree", "checkpoint_metadata_text", "read_tree", "tree_metadata_text"]

_DICT_KEY = 2  # orbax KeyType.DICT; 1 is a position in a list, as in MaxText's opt_state
_HANDLER = "orbax.checkpoint._src.handlers.pytree_checkpoint_handler.PyTreeCheckpointHandler"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tree:
    """What `_METADATA` says.

    Attributes:
        paths: Keys of every leaf that has an array.
        is_ocdbt: Whether the arrays stand in one database, rather than in a folder each.
        is_zarr3: Whether they are zarr version 3, rather than 2.
        has_every_chunk: Whether a chunk that is not there is damage, rather than all zeros.
    """

    paths: frozenset[tuple[str, ...]]
    is_ocdbt: bool
    is_zarr3: bool
    has_every_chunk: bool


def read_tree(item: Location) -> Tree:
    """Reads `_METADATA`.

    Raises:
        CheckpointError: it is not there, cut off, or says something else.
    """
    where = f"{item}/{TREE_METADATA}"
    raw = item.read(TREE_METADATA)
    if raw is None:
        raise CheckpointError("the Orbax metadata is not there", where=where)
    document = parse_json_object(raw, what="the Orbax metadata", where=where)
    entries = document.get("tree_metadata")
    if not isinstance(entries, dict):
        raise CheckpointError("the Orbax metadata lists no leaves (tree_metadata)", where=where)
    is_ocdbt = document.get("use_ocdbt")
    return Tree(
        paths=frozenset(path for entry in entries.values() if (path := _path_of_array(entry, where))),
        is_ocdbt=item.has(OCDBT_MANIFEST) if is_ocdbt is None else bool(is_ocdbt),
        is_zarr3=bool(document.get("use_zarr3", False)),
        has_every_chunk=bool(document.get("store_array_data_equal_to_fill_value", False)),
    )


def tree_metadata_text(paths: Iterable[tuple[str, ...]]) -> str:
    """The content of `_METADATA` for NumPy arrays in zarr 3, a folder each, every chunk stored."""
    entries = {
        str(path): {
            "key_metadata": [{"key": key, "key_type": _DICT_KEY} for key in path],
            "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
        }
        for path in paths
    }
    document: dict[str, Any] = {
        "tree_metadata": entries,
        "use_ocdbt": False,
        "use_zarr3": True,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
    return json.dumps(document)


def checkpoint_metadata_text(custom_metadata: Mapping[str, Any]) -> str:
    """The content of `_CHECKPOINT_METADATA`, without the times, so that equal weights give equal files."""
    document: dict[str, Any] = {
        "item_handlers": _HANDLER,
        "metrics": {},
        "performance_metrics": {},
        "init_timestamp_nsecs": None,
        "commit_timestamp_nsecs": None,
        "custom_metadata": dict(custom_metadata),
    }
    return json.dumps(document)


def _path_of_array(entry: Any, where: str) -> tuple[str, ...] | None:
    """The keys of an entry; None for an empty node, which has no array."""
    try:
        keys = tuple(str(key["key"]) for key in entry["key_metadata"])
        is_empty = bool(entry["value_metadata"].get("skip_deserialize", False))
    except (AttributeError, KeyError, TypeError):
        raise CheckpointError(
            "an entry of the Orbax metadata is not {key_metadata, value_metadata}", where=where, found=shown(entry)
        ) from None
    return None if is_empty else keys
