"""JSONL files: one JSON object a line, found by an index of where lines begin and read when it is asked for."""

import json
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gptoss_weights import CheckpointError

from gptoss_train.data.records import Fields
from gptoss_train.data.sources.files import content_digest

__all__ = ["JsonLinesSource"]

QUOTED = 60  # characters of a line that an error shows


class JsonLinesSource:
    """The objects of several files, behind one another; lines of nothing but blanks are no records.

    Memory holds 24 bytes a record.

    Args:
        files: The files.

    Raises:
        CheckpointError: no file has a record.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        indices = [_index(file) for file in self._files]
        self._first = np.cumsum([0, *(len(index) for index in indices)])
        self._lines = np.concatenate(indices) if indices else np.zeros((0, 3), np.int64)
        if not len(self._lines):
            raise CheckpointError(
                "there is no record", where=", ".join(map(str, files)), expected="a JSON object a line"
            )

    def __len__(self) -> int:
        return len(self._lines)

    def digest(self) -> str:
        """Of what the files hold."""
        return content_digest(self._files)

    def __getitem__(self, index: int) -> Fields:
        file = self._files[int(np.searchsorted(self._first, index, side="right")) - 1]
        start, size, number = (int(entry) for entry in self._lines[index])
        origin = f"{file}:{number}"
        with file.open("rb") as stream:
            stream.seek(start)
            line = stream.read(size)
        try:
            text = line.decode("utf-8-sig" if start == 0 else "utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(
                f"the line is no UTF-8 (at its byte {error.start})", where=origin, fix="Write the file as UTF-8."
            ) from None
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            words = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise CheckpointError(
                f"the line is no JSON ({words})", where=origin, expected="one JSON object a line", found=_quoted(text)
            ) from None
        if not isinstance(values, dict):
            raise CheckpointError(
                "the line is no JSON object", where=origin, expected="one JSON object a line", found=_quoted(text)
            )
        return Fields(origin, values)


def _index(file: Path) -> np.ndarray:
    """Start, size and number of each line that says something."""
    entries = array("q")
    start = 0
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                entries.extend((start, len(line), number))
            start += len(line)
    return np.frombuffer(entries, np.int64).reshape(-1, 3)


def _quoted(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= QUOTED else f"{text[:QUOTED]}…")
