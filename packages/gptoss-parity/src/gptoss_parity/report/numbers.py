"""How reports write numbers: short, and never rounder than they are."""

__all__ = ["number", "percent"]


def number(value: float | None) -> str:
    """Two digits and an exponent; 0 is exactly 0, and what does not exist a dash."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")


def percent(share: float | None) -> str:
    """With one digit; only all is 100 %."""
    if share is None:
        return "–"
    return "100 %" if share == 1 else f"{min(99.9, round(100 * share, 1))} %"
