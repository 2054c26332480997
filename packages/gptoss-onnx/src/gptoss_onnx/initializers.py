"""Initialisers: checkpoint tensors as graph values, each a range of bytes of a weight file."""

import onnx_ir as ir

from gptoss_onnx.graph import GraphBuilder, PackedExperts
from gptoss_onnx.weight_files import WeightFiles

__all__ = ["ExternalParameters"]


class ExternalParameters:
    """The `Parameters` of a graph whose weights stand in files beside it; nothing is read here."""

    def __init__(self, op: GraphBuilder, files: WeightFiles) -> None:
        self._op = op
        self._tensors = files.tensors

    def stored(self, name: str) -> ir.Value:
        """The tensor as it is stored, in its own dtype."""
        place = self._tensors[name]
        return self._op.initializer(
            ir.ExternalTensor(
                place.path.as_posix(),
                place.offset,
                place.nbytes,
                ir.DataType.from_numpy(place.dtype),
                shape=ir.Shape(place.shape),
                name=name,
            )
        )

    def float32(self, name: str) -> ir.Value:
        """The tensor in f32; cast inside the graph, in the scope that is open."""
        value = self.stored(name)
        if value.dtype == ir.DataType.FLOAT:
            return value
        return self._op.Cast(value, to=ir.DataType.FLOAT, name=f"{name.rpartition('.')[2]}.float32")

    def experts(self, name: str) -> PackedExperts | ir.Value:
        """An expert matrix [E, out, in]: packed, or as it is stored."""
        if name in self._tensors:
            return self.stored(name)
        return PackedExperts(self.stored(f"{name}_blocks"), self.stored(f"{name}_scales"))
