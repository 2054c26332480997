"""Opening a bundle: files that flax wrote, the two places of the config, and what does not fit it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gptoss_weights import Checkpoint, CheckpointError, Mxfp4Tensor, random_checkpoint
from gptoss_weights.formats.flax_msgpack import flax_config_path, open_flax, write_flax
from gptoss_weights.formats.flax_msgpack.encoding import Form, Payload, encode_tree
from gptoss_weights.formats.flax_msgpack.tree import TreePath, flax_leaves
from gptoss_weights.testing import tiny_config
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

DATA = Path(__file__).parent / "data"
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize(("stem", "dtype"), [("whole", "bfloat16"), ("cut", "float32")])
def test_a_bundle_that_flax_wrote_holds_the_values_it_was_made_from(stem: str, dtype: str) -> None:
    opened = open_flax(DATA / f"{stem}.msgpack", config=None)
    assert opened.format == "flax"
    source = random_checkpoint(opened.config, seed=0)
    for name in source:
        tensor, found = source.read(name), opened.read_array(name)
        wanted = tensor.decode(dtype) if isinstance(tensor, Mxfp4Tensor) else tensor.astype(dtype)
        assert found.dtype == dtype, name
        assert found.tobytes() == wanted.tobytes(), name


def file_of(forms: dict[TreePath, Form]) -> bytes:
    return b"".join(bytes(piece.nbytes) if isinstance(piece, Payload) else piece for piece in encode_tree(forms))


def forms(**overrides: Any) -> dict[TreePath, Form]:
    return {path: Form(leaf.shape, BFLOAT16) for path, leaf in flax_leaves(tiny_config(**overrides)).items()}


@pytest.fixture
def made(tmp_path: Path) -> Callable[[dict[TreePath, Form]], Path]:
    """Writes a bundle of zeros with these leaves, and the config of the tiny geometry."""

    def make(tree: dict[TreePath, Form]) -> Path:
        path = tmp_path / "tiny.msgpack"
        path.write_bytes(file_of(tree))
        flax_config_path(path).write_text(json.dumps(tiny_config().to_openai()))
        return path

    return make


Make = Callable[[dict[TreePath, Form]], Path]


def refusal(path: Path, config: Path | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_flax(path, config=config)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_float32_and_bfloat16_leaves_may_stand_side_by_side(made: Make) -> None:
    opened = open_flax(made(forms() | {("norm", "scale"): Form((96,), np.dtype(np.float32))}), config=None)
    assert opened.read_array("model.norm.weight").dtype == np.float32
    assert opened.read_array("lm_head.weight").dtype == BFLOAT16


def test_a_tree_under_params_is_the_same_tree(made: Make) -> None:
    opened = open_flax(made({("params", *path): form for path, form in forms().items()}), config=None)
    assert opened.read_array("lm_head.weight").shape == (211, 96)


def test_a_folder_opens_as_the_one_bundle_in_it(made: Make) -> None:
    path = made(forms())
    assert open_flax(path.parent, config=None).config == tiny_config()
    shutil.copy(path, path.parent / "other.msgpack")
    message = refusal(path.parent)
    assert "the folder holds not one *.msgpack file; found other.msgpack, tiny.msgpack. Name the file." in message


def test_files_beside_the_bundle_travel_along(made: Make) -> None:
    path = made(forms())
    (path.parent / "tokenizer.json").write_text("{}")
    assert open_flax(path, config=None).side_files == {"tokenizer.json": path.parent / "tokenizer.json"}


def test_the_config_is_also_read_from_behind_the_full_name(made: Make) -> None:
    path = made(forms())
    flax_config_path(path).rename(path.parent / "tiny.msgpack.config.json")
    assert open_flax(path, config=None).config == tiny_config()


def test_a_config_given_by_hand_wins_over_those_beside_the_bundle(made: Make, tmp_path: Path) -> None:
    path = made(forms())
    flax_config_path(path).write_text("not even JSON")
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps(tiny_config(sliding_window=5).to_huggingface()))
    assert open_flax(path, config=elsewhere).config.sliding_window == 5


def test_a_bundle_without_a_config_says_where_it_was_looked_for(made: Make) -> None:
    path = made(forms())
    flax_config_path(path).unlink()
    assert refusal(path) == (
        "tiny.msgpack: the bundle has no config beside it; expected tiny.config.json or "
        "tiny.msgpack.config.json. Give its place with --config."
    )


def test_two_configs_must_agree(made: Make) -> None:
    path = made(forms())
    other = path.parent / "tiny.msgpack.config.json"
    other.write_text(json.dumps(tiny_config().to_openai(), sort_keys=True, indent=2))
    assert open_flax(path, config=None).config == tiny_config()
    other.write_text(json.dumps(tiny_config(sliding_window=5).to_openai()))
    assert refusal(path) == (
        "tiny.msgpack: tiny.config.json and tiny.msgpack.config.json disagree. Choose one of them with --config."
    )


def test_all_that_does_not_fit_the_config_is_said_at_once(made: Make) -> None:
    tree = forms()
    del tree["norm", "scale"]
    tree["block_0", "attn", "sinks"] = Form((11,), BFLOAT16)
    tree["block_1", "attn", "qkv", "kernel"] = Form((360, 96), BFLOAT16)  # [out, in]: not transposed
    tree["block_2", "mlp", "mlp1_bias"] = Form((7, 128), np.dtype(np.float16))
    tree["block_3", "mlp", "extra"] = Form((1,), BFLOAT16)
    assert refusal(made(tree)) == (
        "tiny.msgpack: 5 problems: norm/scale is missing, expected [96]; "
        "block_0/attn/sinks has the wrong shape, expected [10], found [11]; "
        "block_1/attn/qkv/kernel has the wrong shape, expected [96, 360], found [360, 96]; "
        "block_2/mlp/mlp1_bias has the wrong dtype, expected bfloat16 or float32, found float16; "
        "block_3/mlp/extra belongs to no layer of this geometry. Is this the config of these weights?"
    )


def test_the_config_of_another_depth_is_refused_by_the_number_of_layers(made: Make) -> None:
    path = made(forms(num_hidden_layers=2))
    assert refusal(path) == (
        "tiny.msgpack: the tree has not as many layers as the config says; expected 4 (block_0, …); found 2. "
        "Is this the config of these weights?"
    )


def test_a_config_of_absurdly_many_layers_costs_nothing(made: Make) -> None:
    path = made(forms())
    flax_config_path(path).write_text(json.dumps(tiny_config(num_hidden_layers=10**12).to_openai()))
    assert "expected 1000000000000 (block_0, …); found 4" in refusal(path)


WHOLE = (DATA / "whole.msgpack").read_bytes()
CUT = (DATA / "cut.msgpack").read_bytes()


def read_everything(checkpoint: Checkpoint) -> None:
    for name, spec in checkpoint.specs.items():
        assert checkpoint.read_array(name).copy().shape == spec.shape


def opens_or_is_refused(folder: Path, content: bytes) -> None:
    path = folder / "mutated.msgpack"
    path.write_bytes(content)
    try:
        opened = open_flax(path, config=DATA / "whole.config.json")
    except CheckpointError:
        return
    read_everything(opened)


@pytest.fixture(scope="module")
def structure() -> dict[bytes, list[int]]:
    """The bytes of structure of either file: a mutation elsewhere only changes a weight."""
    places = {}
    for content in (WHOLE, CUT):
        opaque = np.zeros(len(content) + 1, bool)
        for tag in (b"\xa8bfloat16\xc5", b"\xa7float32\xc5"):
            start = content.find(tag)
            while start >= 0:
                data = start + len(tag)
                opaque[data + 2 : data + 2 + int.from_bytes(content[data : data + 2])] = True
                start = content.find(tag, data)
        places[content] = np.flatnonzero(~opaque).tolist()
    return places


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([WHOLE, CUT]),
    st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.integers(0, 6),
            st.binary(max_size=6) | st.sampled_from([b"\xdf\xff\xff\xff\xff", b"\xc9\x7f\xff\xff\xff\x01", b"\xc1", b"\x80"]),
        ),
        min_size=1,
        max_size=4,
    ),
)
@example(WHOLE, [(0.0, 1, b"\x80")])
def test_a_mutated_file_opens_and_reads_or_is_refused(
    content: bytes, mutations: list[tuple[float, int, bytes]], structure: dict[bytes, list[int]], tmp_path: Path
) -> None:
    places = structure[content]
    for where, removed, inserted in mutations:
        start = places[int(where * len(places))]
        content = content[:start] + inserted + content[start + removed :]
    opens_or_is_refused(tmp_path, content)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_refused_in_one_sentence(content: bytes, tmp_path: Path) -> None:
    opens_or_is_refused(tmp_path, content)


def test_a_written_bundle_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.msgpack"
    write_flax(random_checkpoint(tiny_config(num_hidden_layers=1), seed=0), path)
    content = path.read_bytes()
    for length in (1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert "the file is truncated, or a length in it is wrong" in refusal(path)
