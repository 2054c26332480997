"""Opens MaxText's Orbax trees, held against the schema, and reads slices of their leaves.

A read asks TensorStore for the region of a leaf that the index needs, which fetches the chunks that
the region touches and nothing else; so what a read costs was decided by whoever cut the chunks. Ours
hold one expert of one layer. MaxText's may hold several experts of all layers, up to 2 GiB: those
stay decoded in a bounded cache, so that neighbours asked for one after the other decode a chunk once.
Since opening must fetch no chunk, which way round square matrices stand is looked at when they are read.
"""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gptoss_weights.checkpoint import Checkpoint, Index
from gptoss_weights.config import GptOssConfig
from gptoss_weights.errors import CheckpointError
from gptoss_weights.fingerprints import fingerprint_of, identity_of_files
from gptoss_weights.formats.folder import refuse_links_out, side_files
from gptoss_weights.formats.orbax.arrays import open_arrays
from gptoss_weights.formats.orbax.backend import explained, load_tensorstore
from gptoss_weights.formats.orbax.location import ITEM_NAMES, Location, find_item
from gptoss_weights.formats.orbax.metadata import read_tree
from gptoss_weights.formats.orbax.selection import Selection
from gptoss_weights.formats.orbax.tree import ROOT, Place, leaf_places, orbax_leaves
from gptoss_weights.formats.orientation import SquareSample, refuse_transposed, square_samples
from gptoss_weights.json_files import parse_json_object
from gptoss_weights.tiled_copy import copy_by_tiles

if TYPE_CHECKING:
    import tensorstore

__all__ = ["CONFIG_FILE", "OrbaxCheckpoint", "open_orbax"]

CONFIG_FILE = "config.json"
_COPIED_BYTES = 64 * 2**20  # what may be in memory twice; TensorStore turns axes itself, slowly, for more

# What MaxText keeps among the parameters besides parameters: maxtext train_state_nnx.py, _NNX_RNG_STATE_KEYS,
# and model_creation_utils.py, _filter_to_model_keys.
_NO_PARAMETERS = frozenset({"rngs", "dropout", "to_nnx__rngs"})


def open_orbax(path: Path | str, *, config: Path | None) -> "OrbaxCheckpoint":
    """Opens a tree that MaxText or `write_orbax` wrote: the item, the step around it, or the root of one step.

    A training checkpoint opens as well; its optimizer state is left alone. Layers may be scanned or
    not. Each leaf is bfloat16 or float32, as it is stored.

    Args:
        path: A folder, or a URL that TensorStore opens, such as `gs://bucket/run/0/items`.
        config: The `config.json`, unless one lies in the item, the step or the root.

    Raises:
        CheckpointError: whatever is missing, damaged or mismatched, all of it in one message.
        MissingDependencyError: the extra `orbax` is not installed.
    """
    load_tensorstore()
    item = find_item(path)
    if item.path is not None:
        refuse_links_out(item.path)
    tree = read_tree(item)
    found = {keys for keys in tree.paths if keys[: len(ROOT)] == ROOT and not _NO_PARAMETERS.intersection(keys)}
    if not found:
        raise CheckpointError(
            "the Orbax tree holds no parameters of MaxText",
            where=item,
            expected=f"leaves under {'/'.join(ROOT)}/",
            found=", ".join(sorted("/".join(keys) for keys in tree.paths)[:3]) or "no leaves",
        )
    places = _item_and_around(item)
    geometry = GptOssConfig.read(config) if config is not None else _read_config(places)
    is_scanned = any(keys[len(ROOT) :][:2] == ("decoder", "layers") for keys in found)
    leaves = orbax_leaves(geometry, is_scanned=is_scanned)
    return OrbaxCheckpoint(
        config=geometry,
        format="orbax-scanned" if is_scanned else "orbax-unscanned",
        side_files=_side_files(places),
        item=item,
        is_database=tree.is_ocdbt,
        places=leaf_places(leaves),
        arrays=open_arrays(item, tree, leaves, found),
    )


class OrbaxCheckpoint(Checkpoint):
    """Reads canonical tensors as regions of leaves.

    Args:
        config: The geometry.
        format: "orbax-scanned" or "orbax-unscanned".
        side_files: File name → path.
        item: The folder of the tree.
        is_database: Whether the arrays stand in one database, rather than in a folder each.
        places: Canonical name → where it stands.
        arrays: Key of a leaf → its opened array; the caller has held them against the schema.
    """

    def __init__(
        self,
        *,
        config: GptOssConfig,
        format: str,  # noqa: A002 - as the attribute of Checkpoint
        side_files: Mapping[str, Path],
        item: Location,
        is_database: bool,
        places: Mapping[str, tuple[Place, ...]],
        arrays: Mapping[str, "tensorstore.TensorStore"],
    ) -> None:
        self.config = config
        self.format = format
        self.side_files = side_files
        self._item = item
        self._is_database = is_database
        self._places = places
        self._arrays = arrays
        self._unseen = square_samples(config, inputs_first=True, splits_gate_and_up=True)

    def places(self, name: str) -> tuple[Path | str, ...]:
        """The folders of the arrays that hold some of a tensor, two for gate and up; of a database, the item's."""
        item: Path | str = str(self._item) if self._item.path is None else self._item.path
        if self._is_database:
            return (item,)
        keys = [place.leaf.key for place in self._places[name]]
        return tuple(item / key if isinstance(item, Path) else f"{item}/{key}" for key in keys)

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        """One tensor or a part of it; an index that takes gate rows only, or up rows only, reads only those."""
        if samples := self._unseen.pop(name, None):
            self._refuse_transposed(name, samples)
        return self._read(name, index)

    def _refuse_transposed(self, name: str, samples: list[SquareSample]) -> None:
        try:
            refuse_transposed(f"{self._item}: {name}", samples, functools.partial(self._read, name))
        except CheckpointError:
            self._unseen[name] = samples  # however often it is asked for
            raise

    def _read(self, name: str, index: Index) -> np.ndarray:
        places = self._places[name]
        selection = Selection.of(index, places[0].leaf)
        values = np.empty(selection.split_shape, self._arrays[places[0].leaf.key].dtype.numpy_dtype)
        for place in places:
            if place.leaf.half is None or place.leaf.half in selection.halves:
                self._read_into(place.leaf.half_of(values), place, selection)
        result = selection.apply(values)
        result.setflags(write=False)
        return result

    def array_dtype(self, name: str) -> np.dtype:
        """The dtype of the leaf."""
        dtype: np.dtype = self._arrays[self._places[name][0].leaf.key].dtype.numpy_dtype
        return dtype

    def fingerprint(self) -> str | None:
        """Changes with the config and with any file of the folder; unknown behind a URL."""
        if self._item.path is None:
            return None
        files = identity_of_files(path for path in self._item.path.rglob("*") if path.is_file())
        return fingerprint_of(self.format, self.config, files)

    def _read_into(self, target: np.ndarray, place: Place, selection: Selection) -> None:
        leaf = place.leaf
        region = self._arrays[leaf.key][leaf.region(selection.ranges, place.position)]
        with explained("the leaf is damaged", where=f"{self._item}: {leaf.shown}", fix="Copy or download it again."):
            if target.nbytes <= _COPIED_BYTES:
                copy_by_tiles(target, region.read().result().transpose(leaf.split_axes()))
            else:
                load_tensorstore().array(target).write(region.transpose(leaf.split_axes())).result()


def _item_and_around(item: Location) -> list[Location]:
    """The item, the step around it, the root around that, as far as Orbax's names tell."""
    places = [item]
    if item.name in ITEM_NAMES:
        places.append(item.parent)
    if places[-1].name.isdecimal():
        places.append(places[-1].parent)
    return places


def _read_config(places: Iterable[Location]) -> GptOssConfig:
    for place in places:
        if (raw := place.read(CONFIG_FILE)) is not None:
            where = f"{place}/{CONFIG_FILE}"
            return GptOssConfig.from_json(parse_json_object(raw, what="the config", where=where), where=where)
    raise CheckpointError(
        "an Orbax tree carries no config, and none lies beside it",
        where=next(iter(places)),
        expected=CONFIG_FILE,
        fix="Give its place with --config.",
    )


def _side_files(places: Iterable[Location]) -> dict[str, Path]:
    """Tokenizer, template, …, of the item or else of what is around it; none behind a URL."""
    found: dict[str, Path] = {}
    for place in places:
        if place.path is not None:
            found = {**side_files(place.path), **found}
    return found
