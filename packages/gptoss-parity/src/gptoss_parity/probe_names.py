"""What a probe's name says: its axes, whether it holds indices, and when the forward pass reaches it.

Names and axes are stated in `gptoss_weights.probes`; here they are looked up for a name found in a
file, whose geometry is not known yet.
"""

import dataclasses
import functools
import re

from gptoss_weights import GPT_OSS_20B, ProbeSpec, probe_specs

__all__ = ["ProbeName", "parse_probe_name"]

_LAYER_NAME = re.compile(r"layers\.(0|[1-9][0-9]{0,5})\.(\w+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeName:
    """A known probe name: axes as letters, layer (None outside the layers), place in the forward pass.

    `order` sorts names of any number of layers in the order in which a forward pass computes them.
    """

    name: str
    axes: tuple[str, ...]
    is_integer: bool
    layer: int | None
    order: tuple[int, int, int]

    @property
    def kind(self) -> str:
        """The name without its layer: `router_logits` of `layers.3.router_logits`."""
        return self.name.rpartition(".")[2]


def parse_probe_name(name: str) -> ProbeName | None:
    """What is known about a probe of this name; None if there is no such probe."""
    match = _LAYER_NAME.fullmatch(name)
    layer = int(match[1]) if match else None
    template = _template().get(f"layers.0.{match[2]}" if match else name)
    if template is None:
        return None
    position, spec = template
    order = (position, 0, 0) if layer is None else (_first_layer_position(), layer, position)
    return ProbeName(name=name, axes=spec.axes, is_integer=spec.is_integer, layer=layer, order=order)


@functools.cache
def _template() -> dict[str, tuple[int, ProbeSpec]]:
    """Name → place and spec, for one layer; only letters and order are used, never the sizes."""
    one_layer = dataclasses.replace(GPT_OSS_20B, num_hidden_layers=1)
    return {
        name: (position, spec)
        for position, (name, spec) in enumerate(probe_specs(one_layer, 1, block_debug=True).items())
    }


@functools.cache
def _first_layer_position() -> int:
    return min(position for position, spec in _template().values() if spec.layer is not None)
