"""Failure: one limit that was passed, in numbers and in words."""

import dataclasses

__all__ = ["Failure"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """One limit that was passed, or one thing that cannot be compared at all."""

    probe: str
    measure: str
    sentence: str
    value: float | None = None
    limit: float | None = None
