"""Shards that are missing, indexes that lie, and links that lead out of the folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

type Broken = Callable[[str], Path]
type Refused = Callable[..., None]
type Edit = Callable[[Path, Callable[[dict[str, Any]], object]], None]

INDEX = "model.safetensors.index.json"
TENSOR = "model.norm.weight"

# Name → what happens to the weight_map, and the words; {folder} is the checkpoint's.
LIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "file that is not there": (
        lambda places: places.update({TENSOR: "absent.safetensors"}),
        "{folder}/absent.safetensors: the file is missing; the index says that it holds 1 tensors",
    ),
    "name longer than any file's": (
        lambda places: places.update({TENSOR: "x" * 5000}),
        "xxx: the file is missing; the index says that it holds 1 tensors",
    ),
    "tensor that is not there": (
        lambda places: places.update(ghost=places[TENSOR]),
        "ghost is missing, though the index places it there",
    ),
    "tensor that stands elsewhere": (
        lambda places: places.update({TENSOR: next(name for name in places.values() if name != places[TENSOR])}),
        f"the index places {TENSOR} in ",
    ),
    "tensor that it forgets": (lambda places: places.pop(TENSOR), f"the index does not list {TENSOR}"),
    "path out of the folder": (
        lambda places: places.update({TENSOR: "../../secret.safetensors"}),
        f"{{folder}}/{INDEX}: {TENSOR} is said to be in '../../secret.safetensors', which is outside the folder. "
        "Correct the index, or download it again.",
    ),
    "absolute path": (
        lambda places: places.update({TENSOR: "/etc/passwd"}),
        f"{{folder}}/{INDEX}: {TENSOR} is said to be in '/etc/passwd', which is outside the folder. Correct",
    ),
    "absolute path of Windows": (
        lambda places: places.update({TENSOR: "C:\\secret"}),
        f"{TENSOR} is said to be in 'C:\\\\secret', which is outside the folder",
    ),
    "nothing at all": (
        lambda places: places.clear(),
        f"{{folder}}/{INDEX}: the index lists no tensors, its weight_map",
    ),
    "file names that are no text": (
        lambda places: places.update({TENSOR: 7}),
        f"{{folder}}/{INDEX}: the index has no weight_map of tensor name → file name",
    ),
    "100 000 files that are not there": (
        lambda places: places.update({str(number): f"{number}.safetensors" for number in range(100_000)}),
        "the index names more files than any checkpoint has; expected at most 10000; found 100004. Correct",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_index_that_lies_is_refused(name: str, broken: Broken, edit_document: Edit, assert_refused: Refused) -> None:
    folder = broken("sharded hf")
    change, words = LIES[name]
    edit_document(folder / INDEX, lambda document: change(document["weight_map"]))
    assert_refused(folder, [words.format(folder=folder)])


@pytest.mark.parametrize("kind", ["sharded hf", "sharded openai", "sharded hf-bf16"])
@pytest.mark.parametrize("has_index", [True, False])
def test_missing_shard_is_named(kind: str, has_index: bool, broken: Broken, assert_refused: Refused) -> None:
    folder = broken(kind)
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    if not has_index:
        (folder / INDEX).unlink()
    what = "the file is missing; the index says that it holds " if has_index else "the shard is missing"
    assert_refused(folder, [f"{shard}: {what}", "Fetch what is missing or damaged again."])


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_link_out_of_the_folder_is_refused(file: str, broken: Broken, tmp_path: Path, assert_refused: Refused) -> None:
    folder = broken("openai")
    elsewhere = (folder / file).rename(tmp_path / file)
    (folder / file).symlink_to(elsewhere)
    words = f"{folder / file}: the symbolic link leads out of the folder; found {elsewhere}. Put the file itself there."
    assert_refused(folder, [words])


def test_index_that_is_a_link_out_of_the_folder_is_refused(
    broken: Broken, tmp_path: Path, assert_refused: Refused
) -> None:
    folder = broken("sharded hf")
    (folder / INDEX).rename(tmp_path / INDEX)
    (folder / INDEX).symlink_to(tmp_path / INDEX)
    assert_refused(folder, [f"{folder / INDEX}: the symbolic link leads out of the folder; found "])


def test_link_in_a_circle_and_link_to_nowhere_are_refused(broken: Broken, assert_refused: Refused) -> None:
    folder = broken("openai")
    file = folder / "model.safetensors"
    file.unlink()
    file.symlink_to(file)
    assert_refused(folder, [f"{file}: the symbolic link leads in a circle. Put the file itself there."])
    file.unlink()
    file.symlink_to("blob")
    assert_refused(folder, [f"{file}: the symbolic link leads nowhere; found {folder / 'blob'}. Download it again."])


def test_index_that_is_no_json_is_refused(broken: Broken, assert_refused: Refused) -> None:
    folder = broken("sharded hf")
    (folder / INDEX).write_text('{"weight_map": {')
    assert_refused(folder, [f"{folder / INDEX}: the index is not valid JSON (Expecting property name"])
    (folder / INDEX).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert_refused(folder, [f"{folder / INDEX}: the file is a Git-LFS pointer, not the index. Fetch the file with"])


def test_empty_folder_and_nothing_at_all_are_refused(tmp_path: Path, assert_refused: Refused) -> None:
    assert_refused(tmp_path / "absent", [f"error: {tmp_path / 'absent'}: there is no such folder or file"])
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", [f"error: {tmp_path / 'empty'}: the folder holds no *.safetensors files"])
