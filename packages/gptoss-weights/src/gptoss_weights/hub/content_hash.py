"""What the Hub says of a file's content: the sha256 of large files, the git object id of small ones."""

import dataclasses
import hashlib
import re
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["ContentHash"]


@dataclasses.dataclass(frozen=True)
class ContentHash:
    r"""A hash that a whole file must have.

    Attributes:
        algorithm: "sha256", or "git-sha1": the sha1 of `blob <bytes>\0` and the content, git's object id.
        hexdigest: The hash, in lower case.
    """

    algorithm: Literal["sha256", "git-sha1"]
    hexdigest: str

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """The hash that a file has by its ETag or its entry in a list, or None if it is of another kind."""
        text = (text or "").removeprefix("W/").strip('"').lower()
        if re.fullmatch(r"[0-9a-f]{64}", text):
            return cls("sha256", text)
        if re.fullmatch(r"[0-9a-f]{40}", text):
            return cls("git-sha1", text)
        return None

    def hasher(self, nbytes: int) -> "_Hash":
        """A hash object for a content of that many bytes, to be fed with them."""
        if self.algorithm == "sha256":
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % nbytes, usedforsecurity=False)

    def __str__(self) -> str:
        return f"{self.algorithm} {self.hexdigest}"
