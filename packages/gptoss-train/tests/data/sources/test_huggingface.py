import importlib.util
import json
import sys

import pytest
from gptoss_train.data import HuggingFaceConfig
from gptoss_train.data.sources.huggingface import HuggingFaceSource
from gptoss_weights import CheckpointError, MissingDependencyError

needs_datasets = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="needs the extra `datasets` (session extras)"
)
ignore_dill = pytest.mark.filterwarnings("ignore:Cannot locate reference")  # of a class of pyarrow


def test_without_the_library_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'gptoss-train\[datasets\]'"):
        HuggingFaceSource(HuggingFaceConfig(name="owner/name"))


@pytest.fixture
def folder(tmp_path):
    """A dataset as the Hub has them: a folder with a file for each split."""
    for split, count in (("train", 3), ("test", 1)):
        rows = [{"text": f"{split} {number}"} for number in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path


@needs_datasets
def test_rows_of_a_split_are_records(folder):
    source = HuggingFaceSource(HuggingFaceConfig(name=str(folder), split="train"))
    assert [source[index].values["text"] for index in range(len(source))] == ["train 0", "train 1", "train 2"]
    assert source[1].origin == f"{folder}:train[1]"


@needs_datasets
@ignore_dill
def test_a_saved_dataset_opens_from_its_folder(tmp_path):
    import datasets

    parts = {"train": datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}])}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "parts"))
    parts["train"].save_to_disk(str(tmp_path / "one"))
    for name in ("parts", "one"):
        source = HuggingFaceSource(HuggingFaceConfig(name=str(tmp_path / name)))
        assert source[1].values == {"text": "b"}


@pytest.fixture
def saved(tmp_path):
    """What `save_to_disk` leaves: splits, one split by its name, a slice of one, and one that has no name."""
    import datasets

    def part(split, count):
        rows = {"text": [f"{split} {number}" for number in range(count)]}
        return datasets.Dataset.from_dict(rows, split=split)

    datasets.DatasetDict(
        {name: part(name, count) for name, count in (("train", 3), ("test", 2), ("held_out", 1))}
    ).save_to_disk(str(tmp_path / "parts"))
    part("test", 2).save_to_disk(str(tmp_path / "test"))
    part("train[:3]", 3).save_to_disk(str(tmp_path / "slice"))
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(str(tmp_path / "unnamed"))
    return tmp_path


@needs_datasets
@ignore_dill
@pytest.mark.parametrize(
    ("name", "split", "texts"),
    [
        ("parts", "train[:2]", ["train 0", "train 1"]),
        ("parts", "train[-1:]+test", ["train 2", "test 0", "test 1"]),
        ("parts", "test[50%:]", ["test 1"]),
        ("parts", "held_out", ["held_out 0"]),
        ("parts", "all", ["train 0", "train 1", "train 2", "test 0", "test 1", "held_out 0"]),
        ("test", "test", ["test 0", "test 1"]),
        ("test", "test[1:]", ["test 1"]),
        ("slice", "train[:3]", ["train[:3] 0", "train[:3] 1", "train[:3] 2"]),
        ("unnamed", "train", ["a", "b"]),
        ("unnamed", "train[:1]+train[:1]", ["a", "a"]),
    ],
)
def test_split_chooses_of_saved_datasets_too(saved, name, split, texts):
    config = HuggingFaceConfig(name=str(saved / name), split=split)
    source = HuggingFaceSource(config)
    assert [source[number].values["text"] for number in range(len(source))] == texts
    assert source.digest() == HuggingFaceSource(config).digest() != ""


@needs_datasets
@ignore_dill
@pytest.mark.parametrize(
    ("name", "split", "words"),
    [
        (
            "parts",
            "valid",
            "expected 'train', 'test', 'held_out', a slice such as .*; found 'valid'. Correct data.hugg",
        ),
        ("parts", "train[:x]", "the saved dataset has no such split .*found 'train"),
        ("test", "train", "expected 'test', a slice .*; found 'train'"),
        ("slice", "train", r"expected 'train\[:3\]', a slice"),
        ("unnamed", "test", "expected 'train', a slice"),
        ("test", "test[2:]", "the dataset has no row"),
        ("test", "test[2:1]", "the dataset has no row"),
    ],
)
def test_a_split_that_a_saved_dataset_has_not_is_refused(saved, name, split, words):
    with pytest.raises(CheckpointError, match=words):
        HuggingFaceSource(HuggingFaceConfig(name=str(saved / name), split=split))


@needs_datasets
@ignore_dill
def test_options_without_effect_are_refused(saved, folder):
    for name in ("parts", "unnamed"):
        both = HuggingFaceConfig(name=str(saved / name), subset="main", revision="v1")
        with pytest.raises(
            CheckpointError, match=r"saved by save_to_disk has no subset and no revision. Leave out data"
        ):
            HuggingFaceSource(both)
    with pytest.raises(CheckpointError, match=r"a folder has no revision. Leave out data.huggingface.revision"):
        HuggingFaceSource(HuggingFaceConfig(name=str(folder), revision="v1"))
    with pytest.raises(CheckpointError, match=r"the dataset cannot be opened .*not found"):
        HuggingFaceSource(HuggingFaceConfig(name=str(folder), subset="main"))


@needs_datasets
@ignore_dill
def test_members_that_only_other_rows_have_are_not_there(tmp_path):
    """Arrow gives the arguments of all calls, and the schemas of all tools, the same members."""
    import datasets

    def row(name, kind, arguments):
        of_name = {"type": kind, "enum": ["a"]} if kind == "string" else {"type": kind}
        schema = {"type": "object", "properties": {name: of_name}}
        call = {"function": {"name": "f", "arguments": arguments}}
        messages = [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [call]}]
        return {"messages": messages, "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]}

    rows = [
        row("city", "string", {"city": "x", "where": {"from": "a"}, "list": [{"b": 1}, {"c": 2}]}),
        row("unit", "number", {"unit": 0, "where": {"to": ""}}),
        row("unit", "number", {}),
    ]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    source = HuggingFaceSource(HuggingFaceConfig(name=str(tmp_path / "saved")))
    assert [source[number].values for number in range(3)] == rows


@needs_datasets
def test_a_split_that_is_not_there_is_bad_input(folder):
    with pytest.raises(CheckpointError, match="the dataset cannot be opened"):
        HuggingFaceSource(HuggingFaceConfig(name=str(folder), split="validation"))
