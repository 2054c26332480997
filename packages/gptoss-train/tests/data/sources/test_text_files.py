import pytest
from gptoss_train.data.sources import text_files
from gptoss_train.data.sources.text_files import TextFilesSource
from gptoss_weights import CheckpointError

TEXT = "First line.\nSecond line.\n\n \nAnother paragraph, é.\r\nIts end.\n\n\n"


def documents(source):
    return [source[index].text for index in range(len(source))]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes(TEXT.encode())
    return path


def test_a_file_is_one_document(file):
    assert documents(TextFilesSource([file], document="file")) == [TEXT]


def test_paragraphs_are_divided_by_blank_lines(file):
    found = documents(TextFilesSource([file], document="paragraph"))
    assert found == ["First line.\nSecond line.", "Another paragraph, é.\r\nIts end."]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n \n", "\n  "])
@pytest.mark.parametrize("begin", ["", "\n", "\n\n", " \n", "\ufeff", "\ufeff\n"])
def test_line_ends_at_the_borders_of_paragraphs_belong_to_none(tmp_path, newline, end, begin):
    path = tmp_path / "x.txt"
    text = f"{begin}  ab cd\nef \n\ngh\n\n\nij{end}"
    path.write_bytes(text.replace("\n", newline).encode())
    found = documents(TextFilesSource([path], document="paragraph"))
    assert found == [f"  ab cd{newline}ef ", "gh", "ij"]


def test_a_file_of_one_line_is_a_paragraph_without_its_end(tmp_path):
    path = tmp_path / "x.txt"
    for content in ("ab", "ab\r\n", "\r\nab", "ab  "):
        path.write_bytes(content.encode())
        assert documents(TextFilesSource([path], document="paragraph")) == [content.strip("\r\n")]


@pytest.mark.parametrize(("kind", "expected"), [("line", ["cd"]), ("paragraph", ["cd"]), ("file", ["\ncd\n"])])
def test_a_byte_order_mark_is_no_text(tmp_path, kind, expected):
    path = tmp_path / "x.txt"
    path.write_bytes("\ufeff\ncd\n".encode())
    assert documents(TextFilesSource([path], document=kind)) == expected


def test_lines_have_no_line_ends_and_blank_ones_are_none(file):
    found = documents(TextFilesSource([file], document="line"))
    assert found == ["First line.", "Second line.", "Another paragraph, é.", "Its end."]


def test_a_long_document_comes_in_pieces_that_make_it_up_again(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 50)
    text = "".join(f"Line {number} of a long book, ééé.\n" for number in range(40)) + "日本語" * 40
    path = tmp_path / "long.txt"
    path.write_text(text)
    source = TextFilesSource([path], document="file")
    assert "".join(documents(source)) == text
    assert [source[index].is_end for index in range(len(source))] == [False] * (len(source) - 1) + [True]
    assert all(len(piece.encode()) <= 50 for piece in documents(source))
    assert documents(source)[0].endswith("\n")


def test_origins_name_file_and_place(file):
    assert TextFilesSource([file], document="line")[1].origin == f"{file}, bytes 12 to 24"


def test_bytes_that_are_no_utf8_are_named(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"good\nba\xffd\n")
    with pytest.raises(CheckpointError, match=r"x.txt, byte 7: the file is no UTF-8"):
        TextFilesSource([path], document="line")[1]


def test_files_without_text_are_refused(tmp_path):
    (tmp_path / "empty").write_text("")
    (tmp_path / "blank").write_text(" \n\n")
    with pytest.raises(CheckpointError, match=r"there is no text.*expected at least one file"):
        TextFilesSource([tmp_path / "empty", tmp_path / "blank"], document="file")
