"""The parameter tree of MaxText's GPT-OSS: which leaf holds which axes of which canonical tensors.

A leaf takes the axes of a canonical tensor apart (`NH` into N and H, `2F` into F and 2), keeps one
half of the 2 where there is one (gate or up), and puts the rest in another order. The scanned tree
walks over pairs of layers, `layers_0` sliding and `layers_1` full, and stacks the pairs along axis
1 of every leaf; the unscanned tree has its own leaves for every layer.

Source: AI-Hypercomputer/maxtext 0.2.5, models/gpt_oss.py, layers/attentions.py, layers/moe.py and
checkpoint_conversion/standalone_scripts/convert_gpt_oss_ckpt.py, convert_gpt_oss_unscanned_ckpt.py.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping

import numpy as np

from gptoss_weights.config import GptOssConfig
from gptoss_weights.errors import CheckpointError
from gptoss_weights.schema import TensorSpec, axis_sizes, tensor_specs

__all__ = ["HALF", "LAYERS_PER_SCAN", "ROOT", "SCAN_AXIS", "Leaf", "Place", "leaf_places", "orbax_leaves"]

ROOT = ("params", "params")  # the item's key, and Flax's collection inside it
SCAN_AXIS = 1  # maxtext configs/base.yml, param_scan_axis
LAYERS_PER_SCAN = 2  # maxtext configs/models/gpt-oss-20b.yml, inhomogeneous_layer_cycle_interval
HALF = "2"  # the letter of the axis that tells gate (even rows, 0) from up (odd rows, 1)

# Path inside a layer: canonical name inside `model.layers.{i}.`, its axes taken apart, the leaf's axes, the half.
_LAYER: Mapping[str, tuple[str, str, str, int | None]] = {
    "pre_self_attention_layer_norm/scale": ("input_layernorm.weight", "D", "D", None),
    "GptOssAttention/query/kernel": ("self_attn.q_proj.weight", "N H D", "D N H", None),
    "GptOssAttention/query/bias": ("self_attn.q_proj.bias", "N H", "N H", None),
    "GptOssAttention/key/kernel": ("self_attn.k_proj.weight", "K H D", "D K H", None),
    "GptOssAttention/key/bias": ("self_attn.k_proj.bias", "K H", "K H", None),
    "GptOssAttention/value/kernel": ("self_attn.v_proj.weight", "K H D", "D K H", None),
    "GptOssAttention/value/bias": ("self_attn.v_proj.bias", "K H", "K H", None),
    "GptOssAttention/sinks": ("self_attn.sinks", "N", "N", None),
    "GptOssAttention/out/kernel": ("self_attn.o_proj.weight", "D N H", "N H D", None),
    "GptOssAttention/out/bias": ("self_attn.o_proj.bias", "D", "D", None),
    "post_self_attention_layer_norm/scale": ("post_attention_layernorm.weight", "D", "D", None),
    "GptOssMlp/gate/kernel": ("mlp.router.weight", "E D", "D E", None),
    "GptOssMlp/gate/bias": ("mlp.router.bias", "E", "E", None),
    "GptOssMlp/wi_0": ("mlp.experts.gate_up_proj", "E F 2 D", "E D F", 0),
    "GptOssMlp/wi_1": ("mlp.experts.gate_up_proj", "E F 2 D", "E D F", 1),
    "GptOssMlp/wi_0_bias": ("mlp.experts.gate_up_proj_bias", "E F 2", "E F", 0),
    "GptOssMlp/wi_1_bias": ("mlp.experts.gate_up_proj_bias", "E F 2", "E F", 1),
    "GptOssMlp/wo": ("mlp.experts.down_proj", "E D F", "E F D", None),
    "GptOssMlp/wo_bias": ("mlp.experts.down_proj_bias", "E D", "E D", None),
}
_EMBEDDING = ("token_embedder/embedding", "model.embed_tokens.weight", "V D", "V D")
_HEAD = (
    ("decoder/decoder_norm/scale", "model.norm.weight", "D", "D"),
    ("decoder/logits_dense/kernel", "lm_head.weight", "V D", "D V"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf:
    """One leaf: its path, the canonical tensors that it stacks, and how their axes stand in it.

    Attributes:
        path: Keys from the root of the tree.
        specs: The canonical tensors, one a scanned pair; a single one where nothing is stacked.
        is_scanned: Whether they are stacked along axis 1, be it a single one.
        split: Letters of the canonical axes, products taken apart.
        order: The same letters without the half, as they stand in the leaf (without the scan axis).
        half: 0 for the gate, 1 for up, None where there are no halves.
        sizes: Extent of every letter.
    """

    path: tuple[str, ...]
    specs: tuple[TensorSpec, ...]
    is_scanned: bool
    split: tuple[str, ...]
    order: tuple[str, ...]
    half: int | None
    sizes: Mapping[str, int]

    @property
    def key(self) -> str:
        """Name of the leaf's array inside the checkpoint's folder."""
        return ".".join(self.path)

    @property
    def shown(self) -> str:
        """The path as users write it."""
        return "/".join(self.path)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape on disk, scan axis included."""
        return self.with_scan_axis([self.sizes[letter] for letter in self.order], len(self.specs))

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def with_scan_axis[T](self, per_letter: list[T], scan: T) -> tuple[T, ...]:
        """One value for each letter of `order`, and that of the scan axis put in its place, if there is one."""
        if self.is_scanned:
            per_letter = [*per_letter[:SCAN_AXIS], scan, *per_letter[SCAN_AXIS:]]
        return tuple(per_letter)

    def letters_of_axes(self) -> list[tuple[str, ...]]:
        """For each canonical axis the letters that it is a product of, the outer one first."""
        letters = iter(self.split)
        return [tuple(itertools.islice(letters, len(axis))) for axis in self.specs[0].axes]

    def region(self, ranges: Mapping[str, slice], position: int) -> tuple[int | slice, ...]:
        """The index into the leaf that takes one stacked tensor, these ranges of letters, and all of the others."""
        per_letter: list[int | slice] = [ranges.get(letter, slice(None)) for letter in self.order]
        return self.with_scan_axis(per_letter, position)

    def half_of(self, split_array: np.ndarray) -> np.ndarray:
        """Of an array with the axes of `split`, the view of this leaf's half."""
        if self.half is None:
            return split_array
        return split_array[(slice(None),) * self.split.index(HALF) + (self.half,)]

    def from_split(self, split_array: np.ndarray) -> np.ndarray:
        """Of an array with the axes of `split`, the view with the axes of `order`."""
        kept = [letter for letter in self.split if letter != HALF]
        return self.half_of(split_array).transpose([kept.index(letter) for letter in self.order])

    def split_axes(self) -> list[int]:
        """The axes of `order` in the order of `split`, the half left out: the way back of `from_split`."""
        return [self.order.index(letter) for letter in self.split if letter != HALF]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a canonical tensor, or its gate or up half, stands: a leaf, and the position on its scan axis."""

    leaf: Leaf
    position: int


def orbax_leaves(config: GptOssConfig, *, is_scanned: bool) -> list[Leaf]:
    """All leaves of the tree, in the order of the forward pass.

    Raises:
        CheckpointError: an odd number of layers cannot be scanned in pairs.
    """
    count = config.num_hidden_layers
    if is_scanned and count % LAYERS_PER_SCAN:
        raise CheckpointError(
            "MaxText scans over pairs of layers, and an odd number of layers does not come in pairs",
            where="config.num_hidden_layers",
            expected="an even number",
            found=count,
            fix="Use the unscanned tree, or trim a layer.",
        )
    sizes = {**axis_sizes(config), "H": config.head_dim, "K": config.num_key_value_heads, HALF: 2}
    specs = tensor_specs(config)

    def leaf(path: str, names: list[str], split: str, order: str, half: int | None, *, is_stacked: bool) -> Leaf:
        return Leaf(
            path=(*ROOT, *path.split("/")),
            specs=tuple(specs[name] for name in names),
            is_scanned=is_stacked,
            split=tuple(split.split()),
            order=tuple(order.split()),
            half=half,
            sizes=sizes,
        )

    def single(path: str, name: str, split: str, order: str) -> Leaf:
        return leaf(path, [name], split, order, None, is_stacked=False)

    leaves = [single(*_EMBEDDING)]
    for prefix, layers in _layer_folders(count, is_scanned=is_scanned):
        for path, (suffix, split, order, half) in _LAYER.items():
            names = [f"model.layers.{layer}.{suffix}" for layer in layers]
            leaves.append(leaf(f"{prefix}/{path}", names, split, order, half, is_stacked=is_scanned))
    return leaves + [single(*entry) for entry in _HEAD]


def leaf_places(leaves: list[Leaf]) -> dict[str, tuple[Place, ...]]:
    """Canonical name → where it stands: one place, or two, gate before up."""
    places: dict[str, list[Place]] = {}
    for leaf in leaves:
        for position, spec in enumerate(leaf.specs):
            places.setdefault(spec.name, []).append(Place(leaf, position))
    return {name: tuple(found) for name, found in places.items()}


def _layer_folders(count: int, *, is_scanned: bool) -> Iterator[tuple[str, range]]:
    """Path of each folder of layer leaves, and the layers that its leaves hold."""
    if is_scanned:
        for block in range(LAYERS_PER_SCAN):
            yield f"decoder/layers/layers_{block}", range(block, count, LAYERS_PER_SCAN)
    else:
        for layer in range(count):
            yield f"decoder/layers_{layer}", range(layer, layer + 1)
