"""Partitioning: which part of every parameter a device holds.

The schema names each axis of each parameter by a letter (`gptoss_weights.schema`), and a letter says
over which axis of the mesh it is split:

| letters        | mesh axis | for |
|----------------|-----------|-----|
| NH, KH, N      | tensor    | heads, whole ones |
| 2F, F          | tensor    | ffn, in pairs of gate and up |
| V              | tensor    | vocabulary |
| E              | expert    | experts |
| D              | fsdp      | storage alone: a layer is gathered when it runs |

Three exceptions. Vectors of D and the router are small, and every device needs all of them. The rows
of `gate_up_proj` (2F), not its columns (D), are split over fsdp: 32 columns share one MXFP4 scale,
and 2880 / 32 = 90 blocks divide by little. And where a part of F would cut a block of `down_proj`
(published geometry, packed, tensor = 4 or 8), tensor splits the experts like expert does.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal, Self

from gptoss_weights import MXFP4_BLOCK_SIZE, GptOssConfig, TensorSpec, tensor_specs
from jax.sharding import PartitionSpec

from gptoss_model.sharding.rules import MeshRules

__all__ = ["Partitioning"]

LETTER_AXES = {"NH": "tensor", "KH": "tensor", "N": "tensor", "2F": "tensor", "F": "tensor", "V": "tensor"}
LETTER_AXES |= {"E": "expert", "D": "fsdp"}


@dataclasses.dataclass(frozen=True)
class Partitioning:
    """How the parameters of a model are split over a mesh; `of` makes one that divides.

    Attributes:
        rules: Sizes of the mesh axes.
        ffn_axes: Mesh axes that F is split over: tensor, or none.
        expert_axes: Mesh axes that E is split over: expert, and tensor if it does not split F.
    """

    rules: MeshRules = dataclasses.field(default_factory=MeshRules)
    ffn_axes: tuple[str, ...] = ("tensor",)
    expert_axes: tuple[str, ...] = ("expert",)

    @classmethod
    def of(cls, config: GptOssConfig, rules: MeshRules, *, experts: Literal["mxfp4", "decoded"]) -> Self:
        """The partitioning of a model.

        Args:
            config: Its geometry.
            rules: Sizes of the mesh axes, none of them −1.
            experts: Whether the expert matrices are packed.

        Raises:
            ValueError: a parameter does not divide; the message has the numbers, for all that do not.
        """
        is_packed = experts == "mxfp4"
        ffn_units = config.intermediate_size // (MXFP4_BLOCK_SIZE if is_packed else 1)
        splits_ffn = ffn_units % rules.tensor == 0
        candidate = cls(rules, ("tensor",) if splits_ffn else (), ("expert",) if splits_ffn else ("expert", "tensor"))
        problems = list(_indivisible(candidate, config))
        if problems:
            if not splits_ffn and config.num_experts % (rules.expert * rules.tensor):
                problems.append(_why_not_ffn(config, rules, is_packed=is_packed))
            raise ValueError(f"the mesh {rules} does not divide the model:\n  " + "\n  ".join(problems))
        return candidate

    def axes(self, spec: TensorSpec) -> tuple[tuple[str, ...], ...]:
        """For each axis of a parameter the mesh axes that split it, outermost first; those of size 1 are left out."""
        if spec.axes == ("D",) or ".router." in spec.name:
            return ((),) * len(spec.axes)
        return tuple(
            tuple(axis for axis in self._split(letter, spec) if getattr(self.rules, axis) > 1) for letter in spec.axes
        )

    def __call__(self, spec: TensorSpec, *, is_stacked: bool = False) -> PartitionSpec:
        """The same for JAX: an entry an axis, none of them for the leading axis L of a stack of layers.

        It holds for the blocks and the scales of a packed parameter too.
        """
        entries = [axes if len(axes) > 1 else axes[0] if axes else None for axes in self.axes(spec)]
        return PartitionSpec(*([None] if is_stacked else []), *entries)

    def count(self, axes: tuple[str, ...]) -> int:
        """How many parts those mesh axes make."""
        return math.prod(getattr(self.rules, axis) for axis in axes)

    def _split(self, letter: str, spec: TensorSpec) -> tuple[str, ...]:
        if letter == "E":
            return self.expert_axes
        if letter in ("F", "2F"):
            is_stored_by_rows = letter == "2F" and spec.is_expert_matrix
            return (*self.ffn_axes, "fsdp") if is_stored_by_rows else self.ffn_axes
        if letter == "D" and "2F" in spec.axes:
            return ()
        return (LETTER_AXES[letter],)


def _indivisible(partitioning: Partitioning, config: GptOssConfig) -> Iterator[str]:
    """A sentence for each letter that does not divide, at the first parameter that has it."""
    heads = {"NH": (config.num_attention_heads, "query heads"), "KH": (config.num_key_value_heads, "kv heads")}
    seen = set()
    for spec in tensor_specs(config).values():
        if spec.layer:
            continue  # as layer 0
        for letter, extent, axes in zip(spec.axes, spec.shape, partitioning.axes(spec), strict=True):
            units, what = heads.get(letter, (extent, ""))
            parts = partitioning.count(axes)
            if units % parts == 0 or (letter, axes) in seen:
                continue
            seen.add((letter, axes))
            name = spec.name.replace(".0.", ".*.")
            sizes = " × ".join(f"{axis}={getattr(partitioning.rules, axis)}" for axis in axes)
            numbers = f"{units} {what}".rstrip()
            yield f"{name}: axis {letter} of {numbers} over {sizes}; {_what_divides(units, parts)}"


def _why_not_ffn(config: GptOssConfig, rules: MeshRules, *, is_packed: bool) -> str:
    F = config.intermediate_size
    units = F // MXFP4_BLOCK_SIZE if is_packed else F
    blocks = f", {units} MXFP4 blocks of {MXFP4_BLOCK_SIZE}," if is_packed else ""
    way_out = "; decoded experts have no blocks" if is_packed and F % rules.tensor == 0 else ""
    return (
        f"(the experts are split over tensor={rules.tensor} because axis F of {F}{blocks} does not divide by it; "
        f"{_what_divides(units, rules.tensor)}{way_out})"
    )


def _what_divides(units: int, parts: int) -> str:
    """The numbers next to `parts` that do divide."""
    divisors = [number for number in range(1, units + 1) if units % number == 0]
    below, above = max(d for d in divisors if d < parts), [d for d in divisors if d > parts]
    return f"{below} would divide" if not above else f"{below} or {above[0]} would divide"
