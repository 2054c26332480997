"""What was read so far: counts, and the shares that follow from them."""

from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["DataStatistics"]


@dataclass(frozen=True, kw_only=True)
class DataStatistics:
    """Counts of what has been packed; windows are counted whole, so they run a little ahead of the batches.

    Args:
        records: Records read.
        samples: Samples they gave.
        tokens: Tokens of these.
        trained_tokens: Predictions that count in the loss.
        dropped: Samples left out for their length.
        cut: Samples that lost their end.
        without_loss: Samples of which nothing is learnt.
        rows: Rows that the samples were packed into.
        capacity: Tokens that these rows could hold.
    """

    records: int = 0
    samples: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    dropped: int = 0
    cut: int = 0
    without_loss: int = 0
    rows: int = 0
    capacity: int = 0

    def __add__(self, other: "DataStatistics") -> "DataStatistics":
        sums = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return DataStatistics(**sums)

    @property
    def trained_share(self) -> float:
        """Share of the tokens whose prediction counts."""
        return self.trained_tokens / self.tokens if self.tokens else 0.0

    @property
    def packing_efficiency(self) -> float:
        """Share of the rows' places that a token stands on."""
        return self.tokens / self.capacity if self.capacity else 0.0

    @property
    def is_whole(self) -> bool:
        """Whether no sample was cut, dropped for its length, or without anything to learn."""
        return not (self.cut or self.dropped or self.without_loss)

    def losses(self) -> str:
        """How many samples were cut or dropped, or teach nothing, in words."""
        return f"{self.cut} cut, {self.dropped} dropped, {self.without_loss} with nothing to learn"

    def summary(self) -> str:
        """How many samples there were, and the same of them."""
        return f"{self.samples} samples of {self.records} records; {self.losses()}"

    def to_json(self) -> dict[str, Any]:
        """The counts and the shares."""
        shares = {"trained_share": self.trained_share, "packing_efficiency": self.packing_efficiency}
        return asdict(self) | shares

    def counts(self) -> dict[str, int]:
        """The counts alone, from which the same value can be made again."""
        return asdict(self)
