"""Files that are no safetensors file, and headers that lie: what each is called, where, and what to do."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

type Change = Callable[[bytes], bytes]
type Header = dict[str, Any]

FIRST = "block.0.attn.norm.scale"  # of the data; before it comes nothing


def content(raw: bytes) -> Change:
    return lambda _whole: raw


def length(number: int) -> Change:
    return lambda whole: number.to_bytes(8, "little") + whole[8:]


def text(change: Callable[[bytes], bytes]) -> Change:
    """Changes the text of the header, and its length with it."""

    def edit(whole: bytes) -> bytes:
        end = 8 + int.from_bytes(whole[:8], "little")
        raw = change(whole[8:end])
        return len(raw).to_bytes(8, "little") + raw + whole[end:]

    return edit


def entries(change: Callable[[Header], object]) -> Change:
    """Changes what the header says; the data stays."""

    def edit(raw: bytes) -> bytes:
        header = json.loads(raw)
        change(header)
        return json.dumps(header).encode()

    return text(edit)


def entry(**values: object) -> Change:
    return entries(lambda header: in_data_order(header)[1].update(values))


def in_data_order(header: Header) -> list[Header]:
    return sorted(header.values(), key=lambda one: one["data_offsets"])


def shifted(by: int) -> Change:
    def change(header: Header) -> None:
        one = in_data_order(header)[1]
        one["data_offsets"] = [offset + by for offset in one["data_offsets"]]

    return entries(change)


def twice(raw: bytes) -> bytes:
    first = raw[1 : raw.index(b"}") + 1]
    return b"{" + first + b"," + raw[1:]


def many(count: int) -> bytes:
    one = b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    return b"{" + b",".join(b'"%d":%s' % (number, one) for number in range(count)) + b"}"


def pickled(_whole: bytes) -> bytes:
    return pickle.dumps({"weight": [1.0]}, protocol=2)


# Name → how the weights file changes, and the words: what, expected, found, what to do.
CASES: dict[str, tuple[Change, list[str]]] = {
    "empty file": (content(b""), ["the file is empty. Download it again."]),
    "under 8 bytes": (content(b"12345"), ["the file is too short for safetensors; found 5 bytes"]),
    "header of 2^63 bytes": (
        length(2**63),
        ["its header would be too large; expected at most 100000000 bytes; found 9223372036854775808. Fetch"],
    ),
    "header of 101 MB": (
        length(101_000_000),
        ["its header would be too large; expected at most 100000000 bytes; found 101000000. Fetch"],
    ),
    "header past the end": (
        length(90_000_000),
        ["the file is truncated within its header; expected 90000000 bytes of header; found ", "Download it again."],
    ),
    "cut within the header": (
        lambda whole: whole[:1000],
        ["the file is truncated within its header; expected ", "found 992 bytes. Download it again."],
    ),
    "cut within the data": (
        lambda whole: whole[:-1],
        ["the file is truncated: it ends before the end of "],
    ),
    "not JSON": (text(lambda raw: b"#" + raw[1:]), ["the header is not valid JSON (Expecting value: line 1 column 1"]),
    "no object": (text(lambda raw: b"[]"), ["the header is not a JSON object; found list"]),
    "not UTF-8": (text(lambda raw: raw.replace(b"block", b"bl\xffck", 1)), ["the header is not UTF-8; found invalid"]),
    "NaN": (
        text(lambda raw: raw.replace(b"[0,", b"[NaN,", 1)),
        ["is not valid JSON (NaN is no JSON number)"],
    ),
    "duplicate key": (text(twice), ["the header is not valid JSON (the key '", "' stands there twice)"]),
    "entry without offsets": (
        entries(lambda header: in_data_order(header)[1].pop("data_offsets")),
        ["the header entry is not {dtype, shape, data_offsets}"],
    ),
    "overlapping offsets": (shifted(-2), ["the tensor overlaps the one before it; expected begin ", "; found begin "]),
    "holed offsets": (shifted(2), ["there is a hole before the tensor; expected begin ", "; found begin "]),
    "offsets the wrong way": (entry(data_offsets=[8, 4]), ["data_offsets are not [begin, end]", "found [8, 4]"]),
    "trailing bytes": (lambda whole: whole + b"\0", ["bytes follow the last tensor; expected ", " bytes; found "]),
    "shape times dtype is not the bytes": (
        entry(shape=[5, 7]),
        ["shape and dtype do not fit the bytes reserved; expected 70 bytes for [5, 7] of BF16; found 192 bytes"],
    ),
    "negative dimension": (entry(shape=[-96]), ["the shape is not a list of sizes ≥ 0; found [-96]"]),
    "dimension that is no whole number": (entry(shape=[96.0]), ["the shape is not a list of sizes ≥ 0; found [96.0]"]),
    "overflow of a size": (entry(shape=[2**64, 2**64]), ["the size overflows 63 bits; found [18446744073709551616, "]),
    "overflow of a product": (
        entry(shape=[2**62, 2**62]),
        ["the size overflows 63 bits; found [46116860184273"],
    ),
    "overflow beside a zero": (entry(shape=[0, 2**70]), ["the size overflows 63 bits; found [0, 11805916207"]),
    "overflow of an offset": (entry(data_offsets=[0, 2**64]), ["the size overflows 63 bits"]),
    "size of 4000 digits": (entry(shape=[10**4000] * 1000), ["the shape has more than 32 axes; found 1000"]),
    "unknown dtype": (entry(dtype="FP4"), ["unknown dtype; expected one of BOOL, U8, ", "; found 'FP4'"]),
    "dtype that is no text": (
        entry(dtype=[1] * 10_000),
        ["unknown dtype; expected ", "found [1, 1, 1, 1, 1, 1, 1, 1, ...]"],
    ),
    "metadata that is no object": (
        entries(lambda header: header.update(__metadata__={"a": 1})),
        ["the header's __metadata__ is no object of texts; found {'a': 1}"],
    ),
    "nested too deeply": (
        text(lambda raw: b'{"a":' * 5000),
        ["nested too deeply; expected at most 100 levels"],
    ),
    "a million entries": (
        text(lambda raw: many(10**6)),
        ["too many values; expected at most 1000000; found about"],
    ),
    "names that steer a terminal": (
        entries(lambda header: header.update({"\x1b[2J\n": {}})),
        ["model.safetensors: \\x1b[2J\\n: the header entry is not {dtype, shape, data_offsets}"],
    ),
    "LFS pointer": (
        content(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        ["the file is a Git-LFS pointer, not the weights. Fetch the file with `git lfs pull`, or download"],
    ),
    "HTML page": (
        content(b"<!DOCTYPE html>\n<title>Sign in</title>"),
        ["the file is an HTML page, not the weights. Download it again; a login may be needed."],
    ),
    "pickle under the name of safetensors": (
        pickled,
        ["the file is a pickle, which is never opened. Give safetensors files."],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_file_is_refused_in_one_sentence(
    name: str, broken: Callable[[str], Path], assert_refused: Callable[..., None]
) -> None:
    folder = broken("openai")
    change, words = CASES[name]
    file = folder / "model.safetensors"
    file.write_bytes(change(file.read_bytes()))
    assert_refused(folder, [f"error: {file}: ", *words])


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "pkl", "ckpt"])
def test_folder_of_pickles_is_refused_by_name(
    suffix: str, broken: Callable[[str], Path], assert_refused: Callable[..., None]
) -> None:
    folder = broken("openai")
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / f"pytorch_model.{suffix}", "w") as archive:
        archive.writestr("data.pkl", pickled(b""))
    words = "the folder holds pickled weights, which are never opened; expected *.safetensors files"
    assert_refused(folder, [f"error: {folder}: {words}; found pytorch_model.{suffix}. Ask for safetensors"])


@pytest.mark.parametrize(
    "name", ["model.pkl", "model.pt", "pytorch_model.bin", "model.ckpt", "checkpoint", "model.npz"]
)
def test_pickle_given_as_the_checkpoint_is_refused(
    name: str, tmp_path: Path, assert_refused: Callable[..., None]
) -> None:
    path = tmp_path / name
    path.write_bytes(pickled(b""))
    assert_refused(path, [f"error: {path}: the file is a pickle, which is never opened. Give "])


def test_archive_given_as_the_checkpoint_is_refused(tmp_path: Path, assert_refused: Callable[..., None]) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickled(b""))
    assert_refused(path, [f"error: {path}: the file is a zip or pickle archive, which is never opened. Give "])


def test_index_may_name_no_pickle(
    broken: Callable[[str], Path], edit_document: Callable[..., None], assert_refused: Callable[..., None]
) -> None:
    folder = broken("sharded hf")
    shard = sorted(folder.glob("*.safetensors"))[0]
    file = shard.rename(folder / "pytorch_model-00001.bin")
    file.write_bytes(pickled(b""))

    def rename(document: dict[str, Any]) -> None:
        document["weight_map"] = {
            tensor: file.name if name == shard.name else name for tensor, name in document["weight_map"].items()
        }

    edit_document(folder / "model.safetensors.index.json", rename)
    assert_refused(folder, [f"{file}: the file is a pickle, which is never opened. Give safetensors files."])
