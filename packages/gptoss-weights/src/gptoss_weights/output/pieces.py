"""Pieces: an output taken apart into parts that can be written, and repeated, on their own."""

import dataclasses
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

from gptoss_weights.output.files import OutputFiles

__all__ = ["Output", "Piece", "whole_files", "write_pieces"]


@dataclasses.dataclass(frozen=True)
class Piece:
    """One part of an output.

    Attributes:
        key: Its name, the same in every run; one line of text.
        nbytes: How many bytes it is of the whole, for progress.
        write: Writes it; may be repeated after an interruption, and then gives the same bytes. Where
            it copies a tensor, or half of one, it returns the SHA-256 of that.
        copies: Canonical name, and "values", "blocks" or "scales", if that is all that it writes.
    """

    key: str
    nbytes: int
    write: Callable[[OutputFiles], str | None]
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
        record: Called with the key of each piece that is written, and with what writing it returned.

    Yields:
        After each piece, its bytes.
    """
    for piece in pieces:
        if piece.key not in done:
            record(piece.key, piece.write(files))
        yield piece.nbytes
