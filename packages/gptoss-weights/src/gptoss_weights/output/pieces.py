"""Pieces: an output taken apart into parts that can be written, and repeated, on their own."""

import collections
import dataclasses
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import Future

from gptoss_weights.output.files import OutputFiles

__all__ = ["Checksum", "Output", "Piece", "whole_files", "write_pieces"]

type Checksum = str | Future[str] | None
"""BLAKE3, or what will give it, or nothing."""

MOST_UNHASHED = 4  # pieces that are written while checksums of earlier ones are still being computed


@dataclasses.dataclass(frozen=True)
class Piece:
    """One part of an output.

    Attributes:
        key: Its name, the same in every run; one line of text.
        nbytes: How many bytes it is of the whole, for progress.
        write: Writes it; may be repeated after an interruption, and then gives the same bytes. Where
            it copies a tensor, or half of one, it returns the checksum of that.
        copies: Canonical name, and "values", "blocks" or "scales", if that is all that it writes.
    """

    key: str
    nbytes: int
    write: Callable[[OutputFiles], Checksum]
    copies: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Output:
    """What a format makes of a checkpoint.

    Attributes:
        sizes: Path of each file (of an array in a folder of its own: of that) → its size in bytes.
        pieces: Lists what has to be written, in the order in which it should be.
    """

    sizes: Mapping[str, int]
    pieces: Callable[[], Iterable[Piece]]

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())


def whole_files(contents: Mapping[str, bytes]) -> list[Piece]:
    """A piece for each small file, by its name."""

    def piece(name: str, content: bytes) -> Piece:
        def write(files: OutputFiles) -> None:
            files.set_size(name, len(content))
            files.write(name, 0, content)

        return Piece(name, len(content), write)

    return [piece(name, content) for name, content in contents.items()]


def write_pieces(
    pieces: Iterable[Piece], files: OutputFiles, *, done: Container[str], record: Callable[[str, str | None], object]
) -> Iterator[int]:
    """Writes what is not done yet.

    Args:
        pieces: All pieces.
        files: Where to.
        done: Keys of the pieces that were written before.
        record: Called with the key of each piece that is written, and with its BLAKE3 if it has one.

    Yields:
        Bytes of pieces that are done, as soon as they are recorded.
    """
    unrecorded: collections.deque[tuple[Piece, Checksum]] = collections.deque()
    for piece in pieces:
        if piece.key in done:
            yield piece.nbytes
            continue
        unrecorded.append((piece, piece.write(files)))
        while unrecorded and (len(unrecorded) > MOST_UNHASHED or _is_known(unrecorded[0][1])):
            yield _record_first(unrecorded, record)
    while unrecorded:
        yield _record_first(unrecorded, record)


def _record_first(
    unrecorded: collections.deque[tuple[Piece, Checksum]], record: Callable[[str, str | None], object]
) -> int:
    """Waits for the checksum of the earliest piece, records it, and returns the piece's bytes."""
    piece, checksum = unrecorded.popleft()
    record(piece.key, checksum.result() if isinstance(checksum, Future) else checksum)
    return piece.nbytes


def _is_known(checksum: Checksum) -> bool:
    return not isinstance(checksum, Future) or checksum.done()
