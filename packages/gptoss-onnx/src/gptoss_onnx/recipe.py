"""Recipe: in which operators and which numbers a checkpoint is exported.

A profile says which runtimes the graph is for. Within it the experts and the dense matrices can
stand in several forms, of which the default is the fastest exact one:

portable  operators of ONNX alone; experts mxfp4 (packed, decoded as they are chosen), int8, float32
fast      ONNX Runtime's own operators for its CPU; experts int8 (QMoE), float32 (MoE), mxfp4
cuda      the same for its CUDA provider; experts mxfp4 (QMoE)

Twice an MXFP4 value is a small integer, so int8 holds the experts exactly: it is another form of
the same numbers. Dense matrices become int8 or int4 by rounding.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal, get_args

from gptoss_weights import Checkpoint

from gptoss_onnx.errors import OptionError

__all__ = ["ComponentName", "DenseForm", "ExpertForm", "Profile", "Recipe", "StaticShape", "choose_recipe"]

type Profile = Literal["portable", "fast", "cuda"]
type ExpertForm = Literal["mxfp4", "int8", "float32", "stored"]
type DenseForm = Literal["stored", "float32", "int8", "int4"]
type ComponentName = Literal["attention", "mlp", "rms_norm", "block"]
type AttentionForm = Literal["manual", "grouped-query"]

ROTARY_MULTIPLE = 16  # of a head's size, which GroupQueryAttention with rotary positions wants
ROUNDED_BITS: Mapping[DenseForm, int] = {"int8": 8, "int4": 4}
# Columns that share a scale, by bits. In 8 bits ONNX Runtime's kernel takes 3 to 12 % less time than with 32, and the
# error is the same; 4 bits need the scales.
ROUNDED_BLOCKS: Mapping[int, int] = {8: 128, 4: 32}
_OPTIONS: dict[Profile, tuple[tuple[ExpertForm, ...], tuple[DenseForm, ...]]] = {
    "portable": (("mxfp4", "int8", "float32"), ("stored", "float32")),
    "fast": (("int8", "float32", "mxfp4"), ("float32", "int8", "int4")),
    "cuda": (("mxfp4",), ("float32",)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StaticShape:
    """A graph without a cache for whole sequences, padded to `length`, `batch` at a time."""

    batch: int
    length: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to export; made by `choose_recipe`.

    Attributes:
        profile: For which runtimes.
        experts: Form of the expert matrices; `stored` where they are not packed and stay as they are.
        dense: Form of the other matrices, the router's aside, which is never rounded.
        attention: ONNX's own operators, or ONNX Runtime's GroupQueryAttention.
        static: The one shape that the graph takes, or None for any.
        component: The part of a layer that is exported alone, or None for the whole model.
        layer: The layer of that part.
        remarks: What the caller should hear about the choice.
    """

    profile: Profile = "portable"
    experts: ExpertForm = "mxfp4"
    dense: DenseForm = "stored"
    attention: AttentionForm = "manual"
    static: StaticShape | None = None
    component: ComponentName | None = None
    layer: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Whether no number is rounded beyond f32."""
        return self.dense not in ROUNDED_BITS

    @property
    def has_turbo(self) -> bool:
        """Whether ONNX Runtime can compute it with rounded activations, and faster."""
        return self.profile == "fast"

    @property
    def has_merged_projections(self) -> bool:
        """Whether query, key and value come from one matrix."""
        return self.dense in ROUNDED_BITS and self.attention == "grouped-query"

    @property
    def has_fused_norms(self) -> bool:
        """Whether one operator adds to the residual stream and normalises the sum, a little less exactly."""
        return self.profile == "fast" and not self.is_exact

    @property
    def has_fused_experts(self) -> bool:
        """Whether one operator computes the experts of a layer."""
        return self.profile == "cuda" or (self.profile == "fast" and self.experts in ("int8", "float32"))

    @property
    def rounds_when_prepacked(self) -> bool:
        """Whether ONNX Runtime rounds activations where it may lay matrices out for its kernels."""
        return not self.is_exact or (self.has_fused_experts and self.experts == "int8")

    @property
    def is_by_sequence(self) -> bool:
        """Whether the stream is [B, T, D], which these operators take, and not [B·T, D]: fewer nodes in a step."""
        return self.has_merged_projections and self.has_fused_experts


def choose_recipe(
    checkpoint: Checkpoint,
    *,
    profile: Profile = "portable",
    experts: ExpertForm | None = None,
    dense: DenseForm | None = None,
    static: StaticShape | None = None,
    component: ComponentName | None = None,
    layer: int = 0,
) -> Recipe:
    """The recipe for a checkpoint; what is not said is chosen.

    Raises:
        OptionError: the parts do not go together, or not with the checkpoint.
    """
    if profile not in _OPTIONS:
        raise OptionError(f"no profile is called {profile}; there are {', '.join(get_args(Profile.__value__))}")
    expert_forms, dense_forms = _OPTIONS[profile]
    for option, value, allowed in (("experts", experts, expert_forms), ("dense", dense, dense_forms)):
        if value is not None and value not in allowed:
            raise OptionError(f"profile {profile} takes {option} {' or '.join(allowed)}, not {value}")
    if static is not None and profile != "portable":
        raise OptionError(f"only profile portable has static shapes, not {profile}")
    if component is not None and static is not None:
        raise OptionError("a component takes any shape; leave out the static one")
    if component is not None and component not in get_args(ComponentName.__value__):
        raise OptionError(
            f"no component is called {component}; there are {', '.join(get_args(ComponentName.__value__))}"
        )
    layers = checkpoint.config.num_hidden_layers
    if component is not None and not 0 <= layer < layers:
        raise OptionError(f"of {layers} layers none has the number {layer}; the first is 0, the last {layers - 1}")
    is_packed = checkpoint.array_dtype("model.layers.0.mlp.experts.gate_up_proj") is None
    if not is_packed and (experts in ("mxfp4", "int8") or profile == "cuda"):
        raise OptionError(
            f"the experts of this checkpoint are not packed as MXFP4, and {experts or 'mxfp4'} would round them; "
            "take float32, or pack them first with `gptoss-weights convert CHECKPOINT PACKED --to hf`"
        )
    if experts is None:
        experts = expert_forms[0] if is_packed else "float32" if profile == "fast" else "stored"
    head_size = checkpoint.config.head_dim
    is_grouped = profile != "portable" and head_size % ROTARY_MULTIPLE == 0
    remarks = []
    if profile != "portable" and not is_grouped:
        remarks.append(
            f"attention is in ONNX's own operators, for GroupQueryAttention takes head sizes that are multiples "
            f"of {ROTARY_MULTIPLE}, not {head_size}"
        )
    if profile == "cuda":
        remarks.append(
            "profile cuda was checked for its structure against ONNX Runtime's own types, and has never been run"
        )
    return Recipe(
        profile=profile,
        experts=experts,
        dense=dense or dense_forms[0],
        attention="grouped-query" if is_grouped else "manual",
        static=static,
        component=component,
        layer=layer,
        remarks=tuple(remarks),
    )
