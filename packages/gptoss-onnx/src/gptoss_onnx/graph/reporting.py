"""Reporting: the graph hands its intermediates over, and those that are wanted become outputs."""

import dataclasses
from collections.abc import Collection

from gptoss_weights import layer_probe

from gptoss_onnx import ir

__all__ = ["LayerReport", "Report"]


class Report:
    """Collects the wanted probes of a graph in `values`; to be asked before work is done for one alone."""

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = frozenset(wanted)
        self.values: dict[str, ir.Value] = {}

    def wants(self, name: str) -> bool:
        """Whether a probe shall be an output."""
        return name in self._wanted

    def __call__(self, name: str, value: ir.Value) -> None:
        """Keeps a value if its probe is wanted."""
        if self.wants(name):
            self.values[name] = value

    def layer(self, layer: int) -> "LayerReport":
        """The report of one layer, which knows probes by their names inside the layer."""
        return LayerReport(self, layer)


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One layer's part of a `Report`."""

    report: Report
    layer: int

    def wants(self, probe: str) -> bool:
        """Whether a probe of this layer shall be an output."""
        return self.report.wants(layer_probe(self.layer, probe))

    def __call__(self, probe: str, value: ir.Value) -> None:
        """Keeps a value if its probe is wanted."""
        self.report(layer_probe(self.layer, probe), value)
