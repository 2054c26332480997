"""Records: what a source hands out by number, before it is tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

__all__ = ["Document", "Fields", "Record", "RecordSource", "TokenSequence"]


@dataclass(frozen=True)
class Document:
    """A piece of plain text.

    Args:
        origin: Where it is from, for messages.
        text: The text.
        is_end: Whether its document ends with it; a long one is handed out in several pieces.
    """

    origin: str
    text: str
    is_end: bool = True


@dataclass(frozen=True)
class Fields:
    """A row of a table, or an object of a JSON file.

    Args:
        origin: Where it is from, for messages.
        values: Column → value; None counts as absent.
    """

    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class TokenSequence:
    """Tokens that no text stands behind.

    Args:
        origin: Where they are from, for messages.
        tokens: The ids.
    """

    origin: str
    tokens: Int[np.ndarray, "T"]


type Record = Document | Fields | TokenSequence


class RecordSource(Protocol):
    """Records by number, the same each time, from several threads at once: what grain calls a source."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int) -> Record:
        """One of them."""

    def digest(self) -> str:
        """What differs when any record does; nothing where the config says all of them."""
