"""The tree has MaxText's names and shapes, holds every value once, and stacks pairs along axis 1."""

import json
from pathlib import Path

import numpy as np
import pytest
from gptoss_weights import GPT_OSS_20B, CheckpointError, count_parameters
from gptoss_weights.formats.orbax.tree import leaf_places, orbax_leaves
from gptoss_weights.testing import tiny_config

SIZES = {"D": 96, "F": 64, "E": 7, "N": 10, "K": 5, "H": 18, "V": 211}


def test_every_parameter_stands_in_one_leaf(is_scanned: bool) -> None:
    config = tiny_config()
    leaves = orbax_leaves(config, is_scanned=is_scanned)
    assert sum(leaf.size for leaf in leaves) == count_parameters(config)
    assert len({leaf.key for leaf in leaves}) == len(leaves)


def test_gate_and_up_stand_in_two_leaves_and_everything_else_in_one(is_scanned: bool) -> None:
    for name, places in leaf_places(orbax_leaves(tiny_config(), is_scanned=is_scanned)).items():
        assert [place.leaf.half for place in places] == ([0, 1] if "gate_up" in name else [None])


@pytest.mark.parametrize(
    ("path", "letters"),
    [
        ("GptOssAttention/query/kernel", "DNH"),
        ("GptOssAttention/query/bias", "NH"),
        ("GptOssAttention/key/kernel", "DKH"),
        ("GptOssAttention/value/bias", "KH"),
        ("GptOssAttention/out/kernel", "NHD"),
        ("GptOssAttention/sinks", "N"),
        ("GptOssMlp/gate/kernel", "DE"),
        ("GptOssMlp/wi_0", "EDF"),
        ("GptOssMlp/wi_1_bias", "EF"),
        ("GptOssMlp/wo", "EFD"),
        ("pre_self_attention_layer_norm/scale", "D"),
    ],
)
def test_shapes_are_those_of_maxtext_with_pairs_on_axis_one(path: str, letters: str) -> None:
    layer = [SIZES[letter] for letter in letters]
    unscanned = {leaf.shown: leaf for leaf in orbax_leaves(tiny_config(), is_scanned=False)}
    scanned = {leaf.shown: leaf for leaf in orbax_leaves(tiny_config(), is_scanned=True)}
    assert unscanned[f"params/params/decoder/layers_3/{path}"].shape == tuple(layer)
    leaf = scanned[f"params/params/decoder/layers/layers_1/{path}"]
    assert leaf.shape == (layer[0], 2, *layer[1:])
    assert [spec.layer for spec in leaf.specs] == [1, 3]


def test_two_layers_are_still_stacked() -> None:
    leaves = {leaf.shown: leaf for leaf in orbax_leaves(tiny_config(num_hidden_layers=2), is_scanned=True)}
    assert leaves["params/params/decoder/layers/layers_0/GptOssAttention/sinks"].shape == (10, 1)


def test_odd_number_of_layers_is_refused_in_a_sentence() -> None:
    with pytest.raises(CheckpointError, match=r"pairs of layers.*expected an even number; found 3\. Use the unscanned"):
        orbax_leaves(tiny_config(num_hidden_layers=3), is_scanned=True)
    assert orbax_leaves(tiny_config(num_hidden_layers=3), is_scanned=False)


def test_leaves_are_exactly_those_that_maxtext_writes(maxtext: Path, is_scanned: bool) -> None:
    document = json.loads((maxtext / "0" / "items" / "_METADATA").read_text())
    theirs = {tuple(key["key"] for key in entry["key_metadata"]) for entry in document["tree_metadata"].values()}
    ours = {leaf.path for leaf in orbax_leaves(tiny_config(), is_scanned=is_scanned)}
    assert {path for path in theirs if path[0] == "params"} == ours
    assert {path[0] for path in theirs} <= {"params", "step", "opt_state"}


def test_leaf_of_20b_stacks_twelve_layers_in_six_gigabytes() -> None:
    leaf = next(leaf for leaf in orbax_leaves(GPT_OSS_20B, is_scanned=True) if leaf.path[-1] == "wi_0")
    assert leaf.shape == (32, 12, 2880, 2880)
    assert 2 * leaf.size == pytest.approx(6.4e9, rel=0.01)


def test_way_into_a_leaf_and_back_is_the_identity() -> None:
    for leaf in orbax_leaves(tiny_config(), is_scanned=False):
        split = np.arange(np.prod([leaf.sizes[letter] for letter in leaf.split]))
        split = split.reshape([leaf.sizes[letter] for letter in leaf.split])
        there = leaf.from_split(split)
        assert there.shape == leaf.shape
        np.testing.assert_array_equal(there.transpose(leaf.split_axes()), leaf.half_of(split))
