"""How far apart two correct implementations may be: limits as values, each with its dtype and its reason.

What a limit may demand of a token depends on the routing before it (`routing.Reach`). As long as all
experts agree, errors are rounding errors and small. Where two experts' router logits all but tie,
rounding decides, and from then on that token has legitimately computed something else: its own rows
are shown but not judged. Later tokens see it through attention; they are held to `reached`.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from gptoss_weights import CheckpointError

if TYPE_CHECKING:
    from gptoss_parity.trace import TraceMetadata

__all__ = ["BFLOAT16", "FLOAT32", "Limit", "Tolerances", "tolerances_between", "tolerances_for"]


@dataclasses.dataclass(frozen=True)
class Limit:
    """The largest value that passes, and why it is that one.

    Rounding errors of one layer after another add up like a random walk. So where `grows_beyond` is
    a number of layers, the limit holds as it stands up to that depth, and behind it grows as the
    square root of the depth.
    """

    value: float
    reason: str
    grows_beyond: int | None = None

    def __post_init__(self) -> None:
        if not self.value >= 0:
            raise ValueError(f"a limit is at least 0, not {self.value}")

    def at(self, depth: int) -> float:
        """The limit behind that many layers."""
        if self.grows_beyond is None:
            return self.value
        return self.value * math.sqrt(max(1.0, depth / self.grows_beyond))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tolerances:
    """The limits of one dtype. All but the margins are relative L2: ‖candidate − reference‖ / ‖reference‖.

    Attributes:
        dtype: The coarser dtype of the two traces.
        hidden: Each hidden state and the logits, over all tokens that no flip reaches.
        token: The same for the worst single token, which an average over a long prompt would hide.
        router: Router logits and weights. Passes also where no router logit is off by more than
            `margin`, for a sum that all but cancels has no relative precision.
        inner: Block-debug probes, which look inside attention and experts, over the clean tokens.
        inner_token: The same for the worst single token.
        reached: All but router logits and weights, over the tokens that see a flipped one through attention.
        margin: A flip is a near-tie when the reference's router logits of the experts that it swaps
            are no further apart than this …
        margin_per_rms: … plus this many times the root mean square of the token's router logits.
    """

    dtype: str
    hidden: Limit
    token: Limit
    router: Limit
    inner: Limit
    inner_token: Limit
    reached: Limit
    margin: Limit
    margin_per_rms: Limit

    def replace(self, **values: float | None) -> "Tolerances":
        """The same with other values for some limits, at every depth; None keeps what was there.

        Raises:
            ValueError: a limit is negative or NaN.
            TypeError: there is no limit of that name.
        """
        given: dict[str, Any] = {
            name: Limit(value, "given by the caller") for name, value in values.items() if value is not None
        }
        return dataclasses.replace(self, **given)

    def of_width(self, hidden_size: int) -> "Tolerances":
        """The limits for a model that wide: an f32 sum of n terms errs by up to √n roundings.

        Those of narrow models, on which they were measured, hold up to `MEASURED_WIDTH`. In bfloat16 the
        rounding of the sum itself outweighs that.
        """
        factor = math.sqrt(hidden_size / MEASURED_WIDTH)
        if factor <= 1 or self.dtype != "float32":
            return self
        wider: dict[str, Any] = {
            name: dataclasses.replace(
                limit, value=factor * limit.value, reason=f"{limit.reason}; × √(D / {MEASURED_WIDTH})"
            )
            for name, limit in self.limits().items()
            if limit.grows_beyond is not None
        }
        return dataclasses.replace(self, **wider)

    def limits(self) -> dict[str, Limit]:
        """All limits by name."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Limit)
        }


# Measured: gpt-oss against transformers, both on PyTorch's CPU kernels, on random checkpoints of 3 to
# 5 layers and 45 tokens; relative L2 over all tokens, then of the worst token.
# At 36 layers the official bfloat16 code is up to 3.2e-2 from float32, JAX in float32 1.8e-6 from it.
# JAX in float32 is 2.1e-6 to 3.6e-6 from gpt-oss at 20b's width of 2880, from layer 6 to 24.
_MEASURED_DEPTH = 8  # layers; twice the depth of most measurements
MEASURED_WIDTH = 1024  # hidden size; up to which two PyTorch implementations differ by 5e-7
FLOAT32 = Tolerances(
    dtype="float32",
    hidden=Limit(2e-6, "4 × what two independent PyTorch implementations differ by (5e-7)", _MEASURED_DEPTH),
    token=Limit(
        2e-5,
        "10 × the limit over all tokens; the worst token of two PyTorch implementations is at 9e-7",
        _MEASURED_DEPTH,
    ),
    router=Limit(1e-5, "7 × the worst token of two PyTorch implementations (1.4e-6)", _MEASURED_DEPTH),
    inner=Limit(5e-6, "5 × what two implementations differ by inside attention and experts (1e-6)", _MEASURED_DEPTH),
    inner_token=Limit(
        5e-5, "10 × the limit over all tokens; the worst token of two implementations is at 2e-6", _MEASURED_DEPTH
    ),
    reached=Limit(3e-1, "as in bfloat16: a swapped expert is as large in any dtype"),
    margin=Limit(1e-5, "rounding moves float32 router logits of order 1 by some 1e-6"),
    margin_per_rms=Limit(0.0, "the absolute margin suffices"),
)
BFLOAT16 = Tolerances(
    dtype="bfloat16",
    hidden=Limit(
        3e-2, "2 × the official bfloat16 run's distance from float32 before its first flip (1.4e-2)", _MEASURED_DEPTH
    ),
    token=Limit(1e-1, "5 × the worst such token of the official bfloat16 run (2e-2)", _MEASURED_DEPTH),
    router=Limit(
        6e-2, "2 × that of the hidden states: the router's sum partly cancels, errors do not", _MEASURED_DEPTH
    ),
    inner=Limit(6e-2, "2 × that of the hidden states: sums that partly cancel; measured 1.8e-2", _MEASURED_DEPTH),
    inner_token=Limit(2e-1, "6 × the worst token of the official bfloat16 run (3e-2)", _MEASURED_DEPTH),
    reached=Limit(3e-1, "3 × the worst token that saw a flipped one in the official bfloat16 run (1e-1)"),
    margin=Limit(1e-5, "as in float32; the relative margin decides"),
    margin_per_rms=Limit(0.125, "two logits, each off by 3 σ of a relative error of 3e-2: 3·√2·3e-2"),
)


def tolerances_for(*dtypes: str) -> Tolerances:
    """The default limits for traces of these dtypes: those of bfloat16 if any of them is.

    Raises:
        CheckpointError: a dtype has no limits.
    """
    for dtype in dtypes:
        if dtype not in (FLOAT32.dtype, BFLOAT16.dtype):
            raise CheckpointError(
                "there are no limits for a trace that was computed in this dtype",
                expected=f"{FLOAT32.dtype} or {BFLOAT16.dtype}",
                found=repr(dtype),
            )
    return BFLOAT16 if "bfloat16" in dtypes else FLOAT32


def tolerances_between(reference: "TraceMetadata", candidate: "TraceMetadata") -> Tolerances:
    """The default limits for two traces, by their dtypes and, where it is known, the width of their model.

    Raises:
        CheckpointError: a dtype has no limits.
    """
    limits = tolerances_for(reference.dtype, candidate.dtype)
    config = reference.config or candidate.config
    return limits if config is None else limits.of_width(config.hidden_size)
