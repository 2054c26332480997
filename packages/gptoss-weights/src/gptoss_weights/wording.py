"""How foreign values are shown in messages: few characters of them, whatever they are."""

import reprlib

__all__ = ["shown", "shown_name"]

_LONGEST = 60  # characters of a value

_REPR = reprlib.Repr(maxlevel=3, maxdict=4, maxlist=8, maxstring=_LONGEST, maxlong=_LONGEST, maxother=_LONGEST)


def shown(value: object) -> str:
    """A value from a JSON file as Python writes it, cut where it is long."""
    return _REPR.repr(value)


def shown_name(name: str) -> str:
    """A name from a file as it stands there; what is long is cut, and what cannot be printed is escaped."""
    name = name if len(name) <= 2 * _LONGEST else f"{name[:_LONGEST]}…{name[-_LONGEST:]}"
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in name)
