"""Reading: what MaxText wrote, lazily, and every kind of damage as one clear error."""

import importlib.util
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gptoss_weights import (
    Checkpoint,
    CheckpointError,
    GptOssConfig,
    NetworkError,
    open_checkpoint,
    random_checkpoint,
    tensor_specs,
)
from gptoss_weights.formats.orbax import open_orbax, write_orbax
from gptoss_weights.formats.orbax import writer as writer_module
from gptoss_weights.testing import tiny_config

GATE_UP = "model.layers.1.mlp.experts.gate_up_proj"
BYTES_READ = "/tensorstore/kvstore/file/bytes_read"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_maxtext", Path(__file__).parent / "data" / "make_maxtext.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def opening_error(folder: Path | str, config: Path | None = None) -> str:
    with pytest.raises(CheckpointError) as error:
        open_orbax(folder, config=config)
    return str(error.value)


def edit_metadata(item: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((item / "_METADATA").read_text())
    change(document)
    (item / "_METADATA").write_text(json.dumps(document))


def bytes_read() -> int:
    import tensorstore

    metrics = tensorstore.experimental_collect_matching_metrics(BYTES_READ)
    return sum(int(value["value"]) for metric in metrics for value in metric["values"])


# ----------------------------------------------------------------------- what MaxText wrote


def maxtext_to_hugging_face(recipe: ModuleType, config: GptOssConfig, *, is_scanned: bool) -> dict[str, np.ndarray]:
    """What MaxText's converters do, read backwards: an independent statement of the mapping.

    Source: maxtext 0.2.5, checkpoint_conversion/standalone_scripts/convert_gpt_oss_ckpt.py.
    """
    d, f, e = config.hidden_size, config.intermediate_size, config.num_experts
    n, k, h, v = config.num_attention_heads, config.num_key_value_heads, config.head_dim, config.vocab_size

    def leaf(layer: int, path: str, *shape: int) -> np.ndarray:
        if not is_scanned:
            return recipe.leaf_values(f"decoder/layers_{layer}/{path}", shape)
        stacked = (shape[0], config.num_hidden_layers // 2, *shape[1:])
        values = recipe.leaf_values(f"decoder/layers/layers_{layer % 2}/{path}", stacked)
        return np.take(values, layer // 2, axis=1)

    tensors = {
        "model.embed_tokens.weight": recipe.leaf_values("token_embedder/embedding", (v, d)),
        "model.norm.weight": recipe.leaf_values("decoder/decoder_norm/scale", (d,)),
        "lm_head.weight": recipe.leaf_values("decoder/logits_dense/kernel", (d, v)).T,
    }
    for i in range(config.num_hidden_layers):
        at = f"model.layers.{i}."
        for letter, word, heads in (("q", "query", n), ("k", "key", k), ("v", "value", k)):
            kernel = leaf(i, f"GptOssAttention/{word}/kernel", d, heads, h)
            tensors[f"{at}self_attn.{letter}_proj.weight"] = kernel.reshape(d, heads * h).T
            tensors[f"{at}self_attn.{letter}_proj.bias"] = leaf(i, f"GptOssAttention/{word}/bias", heads, h).reshape(-1)
        tensors[f"{at}self_attn.o_proj.weight"] = leaf(i, "GptOssAttention/out/kernel", n, h, d).reshape(n * h, d).T
        tensors[f"{at}self_attn.o_proj.bias"] = leaf(i, "GptOssAttention/out/bias", d)
        tensors[f"{at}self_attn.sinks"] = leaf(i, "GptOssAttention/sinks", n)
        tensors[f"{at}mlp.router.weight"] = leaf(i, "GptOssMlp/gate/kernel", d, e).T
        tensors[f"{at}mlp.router.bias"] = leaf(i, "GptOssMlp/gate/bias", e)
        gate_up = np.empty((e, d, 2 * f), np.float32)  # Hugging Face's bf16 form, which the converters take
        gate_up[..., ::2] = leaf(i, "GptOssMlp/wi_0", e, d, f)
        gate_up[..., 1::2] = leaf(i, "GptOssMlp/wi_1", e, d, f)
        gate_up_bias = np.empty((e, 2 * f), np.float32)
        gate_up_bias[..., ::2] = leaf(i, "GptOssMlp/wi_0_bias", e, f)
        gate_up_bias[..., 1::2] = leaf(i, "GptOssMlp/wi_1_bias", e, f)
        tensors[f"{at}mlp.experts.gate_up_proj"] = gate_up.transpose(0, 2, 1)
        tensors[f"{at}mlp.experts.gate_up_proj_bias"] = gate_up_bias
        tensors[f"{at}mlp.experts.down_proj"] = leaf(i, "GptOssMlp/wo", e, f, d).transpose(0, 2, 1)
        tensors[f"{at}mlp.experts.down_proj_bias"] = leaf(i, "GptOssMlp/wo_bias", e, d)
        tensors[f"{at}input_layernorm.weight"] = leaf(i, "pre_self_attention_layer_norm/scale", d)
        tensors[f"{at}post_attention_layernorm.weight"] = leaf(i, "post_self_attention_layer_norm/scale", d)
    return tensors


def test_every_tensor_of_maxtext_is_where_its_converter_put_it(
    maxtext: Path, recipe: ModuleType, is_scanned: bool
) -> None:
    checkpoint = open_orbax(maxtext, config=None)
    assert checkpoint.format == ("orbax-scanned" if is_scanned else "orbax-unscanned")
    expected = maxtext_to_hugging_face(recipe, checkpoint.config, is_scanned=is_scanned)
    assert set(expected) == set(tensor_specs(checkpoint.config))
    for name, values in expected.items():
        np.testing.assert_array_equal(checkpoint.read(name).astype(np.float32), values, err_msg=name)


def test_dtypes_are_those_of_the_leaves(maxtext: Path) -> None:
    checkpoint = open_orbax(maxtext, config=None)
    assert checkpoint.read(GATE_UP, (0,)).dtype == ml_dtypes.bfloat16
    assert checkpoint.read("model.layers.0.input_layernorm.weight").dtype == np.float32  # so MaxText trains


@pytest.mark.parametrize("inside", [".", "0", "0/items"])
def test_item_step_and_root_open_alike(maxtext: Path, inside: str) -> None:
    checkpoint = open_orbax(maxtext / inside, config=None)
    assert checkpoint.digest() == open_orbax(maxtext, config=None).digest()


# -------------------------------------------------------------------------------- reading


def test_slice_is_the_slice_of_the_whole(written: Path) -> None:
    checkpoint = open_orbax(written, config=None)
    whole = checkpoint.read(GATE_UP)
    assert not whole.flags.writeable
    for index in ((2,), (slice(1, 3), slice(5, 20, 3)), (-1, slice(None, None, -1), 4), (slice(3, 3),)):
        np.testing.assert_array_equal(
            checkpoint.read(GATE_UP, index).view(np.uint16), whole[index].view(np.uint16), err_msg=str(index)
        )


def test_unknown_name_is_a_key_error(written: Path) -> None:
    with pytest.raises(KeyError):
        open_orbax(written, config=None).read("model.layers.9.nothing")


def test_expert_of_a_layer_reads_its_chunks_alone(
    tmp_path: Path, source: Checkpoint, is_scanned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "CHUNK_BYTES", 20_000)  # a leaf of experts is larger, one expert is not
    write_orbax(source, tmp_path, is_scanned=is_scanned)
    checkpoint = open_orbax(tmp_path, config=None)
    config = checkpoint.config
    chunk = 2 * config.hidden_size * config.intermediate_size + writer_module.CHECKSUM_BYTES
    for index, chunks in (((4,), 2), ((4, slice(0, None, 2)), 1), ((slice(2, 5),), 6)):
        before = bytes_read()
        checkpoint.read(GATE_UP, index)
        assert bytes_read() - before == chunks * chunk


def test_opening_reads_no_weights(written: Path) -> None:
    total = sum(path.stat().st_size for path in written.rglob("*") if path.is_file())
    before = bytes_read()
    open_orbax(written, config=None)
    assert bytes_read() - before < total / 5  # zarr.json of each leaf


# -------------------------------------------------------------------- config and side files


def test_config_may_stand_elsewhere(written: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    shutil.move(written / "config.json", elsewhere)
    assert open_orbax(written, config=elsewhere).config == tiny_config()


def test_missing_config_is_asked_for(written: Path) -> None:
    (written / "config.json").unlink()
    assert opening_error(written) == (
        f"{written}: an Orbax tree carries no config, and none lies beside it; expected config.json. "
        "Give its place with --config."
    )


def test_side_files_of_item_step_and_root_travel_along(maxtext: Path) -> None:
    (maxtext / "tokenizer.json").write_text("{}")
    (maxtext / "0" / "items" / "LICENSE").write_text("")
    checkpoint = open_orbax(maxtext, config=None)
    assert {name: path.resolve() for name, path in checkpoint.side_files.items()} == {
        "tokenizer.json": maxtext / "tokenizer.json",
        "LICENSE": maxtext / "0" / "items" / "LICENSE",
    }


def test_config_of_another_geometry_is_told_with_the_leaves(written: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(tiny_config(vocab_size=212).to_openai()))
    message = opening_error(written, other)
    assert "params/params/token_embedder/embedding has the wrong shape, expected [212, 96], found [211, 96]" in message
    assert message.endswith("Is this the config of these weights?")


def test_config_with_more_layers_is_told(tmp_path: Path, source: Checkpoint) -> None:
    write_orbax(source, tmp_path, is_scanned=False)
    (tmp_path / "config.json").write_text(json.dumps(tiny_config(num_hidden_layers=5).to_openai()))
    assert "params/params/decoder/layers_4/GptOssMlp/wi_0 is missing, expected [7, 96, 64]" in (
        opening_error(tmp_path) + _all_problems(tmp_path)
    )


def _all_problems(folder: Path) -> str:
    """The message shows the first five; this is the rest of them."""
    from gptoss_weights.formats.orbax import arrays

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_SHOWN_PROBLEMS", 1000)
        return opening_error(folder)


# --------------------------------------------------------------------------------- damage


def test_lost_chunk_is_told_when_opened(written: Path, is_scanned: bool) -> None:
    layer = "layers.layers_1" if is_scanned else "layers_1"
    key = f"params.params.decoder.{layer}.GptOssMlp.wo"
    next(path for path in (written / key / "c").rglob("*") if path.is_file()).unlink()
    assert f"{key.replace('.', '/')} has lost 1 of its 1 chunks. Copy or download" in opening_error(written)


def test_lost_array_is_told_when_opened(written: Path) -> None:
    shutil.rmtree(written / "params.params.decoder.logits_dense.kernel")
    message = opening_error(written)
    assert "params/params/decoder/logits_dense/kernel: the array cannot be opened (NOT_FOUND" in message
    assert "tensorstore_spec" not in message


def test_cut_array_metadata_is_told(written: Path) -> None:
    path = written / "params.params.decoder.logits_dense.kernel" / "zarr.json"
    path.write_bytes(path.read_bytes()[:40])
    assert "params/params/decoder/logits_dense/kernel: the array cannot be opened" in opening_error(written)


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damaged_chunk_is_told_when_read(written: Path, damage: str) -> None:
    key = "params.params.decoder.logits_dense.kernel"
    path = next(path for path in (written / key / "c").rglob("*") if path.is_file())
    content = bytearray(path.read_bytes())
    content[1234] ^= 4
    path.write_bytes(content if damage == "flipped" else content[:1000])
    checkpoint = open_orbax(written, config=None)
    with pytest.raises(CheckpointError, match=r"params/params/decoder/logits_dense/kernel: the leaf is damaged"):
        checkpoint.read("lm_head.weight")


@pytest.mark.parametrize("keep", [0, 100])
def test_cut_tree_metadata_is_told(maxtext: Path, keep: int) -> None:
    path = maxtext / "0" / "items" / "_METADATA"
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path}: the Orbax metadata is not valid JSON" in opening_error(maxtext)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "lists no leaves (tree_metadata)"),
        ({"a": 3}, "an entry of the Orbax metadata is not {key_metadata, value_metadata}"),
        ({"a": {"key_metadata": [{}], "value_metadata": {}}}, "an entry of the Orbax metadata is not"),
        ({}, "holds no parameters of MaxText; expected leaves under params/params/; found no leaves"),
    ],
)
def test_tree_metadata_that_says_something_else_is_told(maxtext: Path, entries: object, words: str) -> None:
    edit_metadata(maxtext / "0" / "items", lambda document: document.update(tree_metadata=entries))
    assert words in opening_error(maxtext)


def test_lost_tree_metadata_is_told(maxtext: Path) -> None:
    (maxtext / "0" / "items" / "_METADATA").unlink()
    assert f"{maxtext}/0: the Orbax checkpoint is damaged, or there is none: _METADATA is missing" in opening_error(
        maxtext
    )


@pytest.mark.parametrize("where", ["0/items", "0/items/d"])
def test_lost_database_is_told(maxtext: Path, where: str) -> None:
    lost = maxtext / where / "manifest.ocdbt" if where == "0/items" else maxtext / where
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    assert str(maxtext) in opening_error(maxtext)


def test_lost_data_of_the_database_is_told_when_read(written: Path, tmp_path: Path, source: Checkpoint) -> None:
    folder = as_database(written, tmp_path / "database")
    checkpoint = open_orbax(folder, config=None)
    np.testing.assert_array_equal(checkpoint.read("lm_head.weight"), source.read("lm_head.weight"))
    shutil.rmtree(folder / "values")
    checkpoint = open_orbax(folder, config=None)
    with pytest.raises(CheckpointError, match="logits_dense/kernel: the leaf is damaged"):
        checkpoint.read("lm_head.weight")


def as_database(folder: Path, target: Path) -> Path:
    """The same arrays in OCDBT, as Orbax keeps them, chunks in files of their own."""
    import tensorstore

    target.mkdir()
    store = tensorstore.KvStore.open(
        {
            "driver": "ocdbt",
            "base": f"file://{target}/",
            "value_data_prefix": "values/",
            "config": {"max_inline_value_bytes": 1024},
        }
    ).result()
    inside = [path for path in folder.glob("*/**/*") if path.is_file()]
    for write in [store.write(str(path.relative_to(folder)), path.read_bytes()) for path in inside]:
        write.result()
    for name in ("_METADATA", "config.json"):
        shutil.copy(folder / name, target)
    edit_metadata(target, lambda document: document.update(use_ocdbt=True))
    return target


def test_leaf_of_another_dtype_is_refused(written: Path) -> None:
    path = written / "params.params.decoder.decoder_norm.scale" / "zarr.json"
    path.write_text(path.read_text().replace('"bfloat16"', '"float16"'))
    assert "decoder_norm/scale has the wrong dtype, expected bfloat16 or float32, found float16" in opening_error(
        written
    )


def test_gate_and_up_of_two_dtypes_are_refused(written: Path, is_scanned: bool) -> None:
    layer = "layers.layers_0" if is_scanned else "layers_0"
    path = written / f"params.params.decoder.{layer}.GptOssMlp.wi_1_bias" / "zarr.json"
    path.write_text(path.read_text().replace('"bfloat16"', '"float32"'))
    assert "wi_1_bias has another dtype than wi_0_bias: float32 and bfloat16" in opening_error(written)


def test_unknown_leaf_is_refused_and_random_streams_are_not(maxtext: Path) -> None:
    def add(*keys: str) -> Callable[[dict[str, Any]], None]:
        entry = {
            "key_metadata": [{"key": key, "key_type": 2} for key in keys],
            "value_metadata": {"value_type": "jax.Array", "skip_deserialize": False},
        }
        return lambda document: document["tree_metadata"].update({str(keys): entry})

    item = maxtext / "0" / "items"
    edit_metadata(item, add("params", "params", "decoder", "dropout", "rngs", "key"))
    edit_metadata(item, add("opt_state", "0", "mu"))
    open_orbax(maxtext, config=None)
    edit_metadata(item, add("params", "params", "decoder", "lora_a"))
    assert "params/params/decoder/lora_a is no leaf of this geometry" in opening_error(maxtext)


def test_odd_number_of_layers_beside_a_scanned_tree_is_refused(tmp_path: Path) -> None:
    write_orbax(random_checkpoint(tiny_config(), seed=0), tmp_path, is_scanned=True)
    (tmp_path / "config.json").write_text(json.dumps(tiny_config(num_hidden_layers=3).to_openai()))
    assert "does not come in pairs" in opening_error(tmp_path)


def test_what_another_open_checkpoint_has_cached_is_looked_at_again(written: Path) -> None:
    before = open_orbax(written, config=None)
    before.read("model.norm.weight")
    metadata = next(written.rglob("*decoder_norm.scale/zarr.json"))
    metadata.unlink()
    assert "decoder_norm/scale" in opening_error(written)


@pytest.mark.parametrize("kind", ["chunk", "array"])
def test_links_out_of_the_tree_are_refused(written: Path, tmp_path: Path, kind: str) -> None:
    array = written / "params.params.decoder.decoder_norm.scale"
    moved = array if kind == "array" else next(path for path in array.rglob("*") if path.parent != array)
    moved.rename(tmp_path / "elsewhere")
    moved.symlink_to(tmp_path / "elsewhere")
    assert "the symbolic link leads out of the folder" in opening_error(written)


def test_links_inside_the_tree_are_followed(written: Path) -> None:
    array = written / "params.params.decoder.decoder_norm.scale"
    array.rename(written / "kept")
    array.symlink_to(written / "kept")
    open_checkpoint(written).read("model.norm.weight")


def test_a_server_that_is_not_there_is_given_up_on() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(NetworkError, match="cannot be read"):
            open_checkpoint(f"http://127.0.0.1:{free.getsockname()[1]}/tree")
