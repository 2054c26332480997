"""Plain text files as documents: whole files, paragraphs or lines.

A document of more than `BLOCK_BYTES` is handed out in pieces that end at a line's end where there is one, so that
shuffling reaches into a long book, and a file may be larger than memory. Only the last piece ends the document.

Line ends between documents, Unix's or Windows', belong to none, nor does a byte order mark; inside of a document
they stay as they are.
"""

import mmap
import re
from array import array
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from gptoss_weights import CheckpointError

from gptoss_train.data.records import Document
from gptoss_train.data.sources.files import content_digest

__all__ = ["BLOCK_BYTES", "TextFilesSource"]

BLOCK_BYTES = 1 << 16
_SEPARATORS = {"paragraph": re.compile(rb"\r?\n(?:[ \t\r]*\n)++"), "line": re.compile(rb"\r?\n")}
_BLANK_LINES = re.compile(rb"(?:[ \t\r]*\n)++")
_BLANKS = re.compile(rb"[ \t\r]*")
_CONTINUES = range(0x80, 0xC0)  # bytes inside of a character, in UTF-8
_BLANK = b" \t\r\n\x0b\x0c"


class TextFilesSource:
    """The documents of several files, behind one another; what has nothing but blanks is none.

    Memory holds 32 bytes a piece.

    Args:
        files: The files, in UTF-8.
        document: What one document is.

    Raises:
        CheckpointError: no file has a document.
    """

    def __init__(self, files: Sequence[Path], *, document: Literal["file", "paragraph", "line"]) -> None:
        self._files = list(files)
        pieces = array("q")
        for place, file in enumerate(self._files):
            for piece in _pieces(file, document):
                pieces.extend((place, *piece))
        self._pieces = np.frombuffer(pieces, np.int64).reshape(-1, 4)
        if not pieces:
            raise CheckpointError(
                "there is no text", where=", ".join(map(str, files)), expected=f"at least one {document}"
            )

    def __len__(self) -> int:
        return len(self._pieces)

    def digest(self) -> str:
        """Of what the files hold."""
        return content_digest(self._files)

    def __getitem__(self, index: int) -> Document:
        place, start, end, is_end = (int(entry) for entry in self._pieces[index])
        file = self._files[place]
        with file.open("rb") as stream:
            stream.seek(start)
            content = stream.read(end - start)
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(
                "the file is no UTF-8", where=f"{file}, byte {start + error.start}", fix="Write the file as UTF-8."
            ) from None
        return Document(f"{file}, bytes {start} to {end}", text, bool(is_end))


def _pieces(file: Path, document: Literal["file", "paragraph", "line"]) -> Iterator[tuple[int, int, bool]]:
    """Start, end, and whether a document ends there."""
    if file.stat().st_size == 0:
        return
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for start, end in _documents(content, document):
            yield from _blocks(content, start, end)


def _documents(content: mmap.mmap, document: Literal["file", "paragraph", "line"]) -> Iterator[tuple[int, int]]:
    start, end = len(BOM_UTF8) if content[: len(BOM_UTF8)] == BOM_UTF8 else 0, len(content)
    if document == "paragraph" and (blank := _BLANK_LINES.match(content, start)):
        start = blank.end()
    if document != "file":
        for separator in _SEPARATORS[document].finditer(content, start):
            yield start, separator.start()
            start = separator.end()
    yield start, _before_line_end(content, start, end) if document == "paragraph" else end


def _before_line_end(content: mmap.mmap, start: int, end: int) -> int:
    """Where a file's last paragraph ends, which no blank line follows."""
    last = content.rfind(b"\n", start, end)
    rest = _BLANKS.match(content, last + 1)
    if last == -1 or rest is None or rest.end() < end:
        return end
    return last - (content[last - 1 : last] == b"\r")


def _blocks(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """A document in pieces; none if it is blank."""
    blocks = []
    while end - start > BLOCK_BYTES:
        cut = content.rfind(b"\n", start, start + BLOCK_BYTES) + 1
        if cut == 0:  # a line that is longer than a piece
            cut = start + BLOCK_BYTES
            while content[cut] in _CONTINUES and cut > start + BLOCK_BYTES - 4:
                cut -= 1
        blocks.append((start, cut))
        start = cut
    blocks.append((start, end))
    spoken = [block for block in blocks if content[slice(*block)].strip(_BLANK)]
    yield from ((*block, block is spoken[-1]) for block in spoken)
