import pytest
from gptoss_train.data.sources.files import matching_files
from gptoss_weights import CheckpointError


def test_patterns_are_sorted_and_files_come_once(tmp_path):
    for name in ("b.txt", "a.txt", "sub/c.txt", "d.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = matching_files([str(tmp_path / "b.txt"), str(tmp_path / "**" / "*.txt")])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["b.txt", "a.txt", "sub/c.txt"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path):
    path = tmp_path / "a[1].txt"
    path.write_text("x")
    assert matching_files([str(path)]) == [path]


def test_a_pattern_without_a_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing\*: there is no such file"):
        matching_files([str(tmp_path / "nothing*")])


def test_a_folder_is_refused_with_what_to_write(tmp_path):
    with pytest.raises(CheckpointError, match=r"this is a folder.*\*\.txt"):
        matching_files([str(tmp_path)])
