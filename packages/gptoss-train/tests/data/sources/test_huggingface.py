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
@pytest.mark.filterwarnings("ignore:Cannot locate reference")  # dill, of a class of pyarrow
def test_a_saved_dataset_opens_from_its_folder(tmp_path):
    import datasets

    parts = {"train": datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}])}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "parts"))
    parts["train"].save_to_disk(str(tmp_path / "one"))
    for name in ("parts", "one"):
        source = HuggingFaceSource(HuggingFaceConfig(name=str(tmp_path / name)))
        assert source[1].values == {"text": "b"}


@needs_datasets
@pytest.mark.filterwarnings("ignore:Cannot locate reference")  # dill, of a class of pyarrow
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
