"""Initialisers: checkpoint tensors as graph values, each a range of bytes of a weight file."""

from collections.abc import Mapping

from gptoss_weights import StoredArray, TensorSpec

from gptoss_onnx import ir
from gptoss_onnx.forms import codes_name, kernel_name, scales_name, table_name
from gptoss_onnx.graph import Fp4Experts, GraphBuilder, Int8Experts, Kernel, PackedExperts, RoundedMatrix
from gptoss_onnx.recipe import ROUNDED_BITS
from gptoss_onnx.weight_files import WeightFiles

__all__ = ["ExternalParameters"]


class ExternalParameters:
    """The `Parameters` of a graph whose weights stand in files beside it; nothing is read here."""

    def __init__(self, op: GraphBuilder, files: WeightFiles, specs: Mapping[str, TensorSpec]) -> None:
        self._op = op
        self._specs = specs
        self._tensors = files.tensors

    def stored(self, name: str) -> ir.Value:
        """The tensor as it is stored, in its own dtype."""
        place = self._tensors[name]
        return self._external(name, place, ir.DataType.from_numpy(place.dtype), place.shape)

    def _external(self, name: str, place: StoredArray, dtype: ir.DataType, shape: tuple[int, ...]) -> ir.Value:
        path = place.path.as_posix()
        return self._op.initializer(
            ir.ExternalTensor(name=name, dtype=dtype, shape=shape, path=path, offset=place.offset, length=place.nbytes)
        )

    def float32(self, name: str) -> ir.Value:
        """The tensor in f32; cast inside the graph, in the scope that is open."""
        value = self.stored(name)
        if value.dtype == ir.DataType.FLOAT:
            return value
        return self._op.Cast(value, to=ir.DataType.FLOAT, name=f"{name.rpartition('.')[2]}.float32")

    def matrix(self, name: str) -> ir.Value | Kernel | RoundedMatrix:
        """A dense matrix: f32 [out, in], or in another form."""
        if kernel_name(name) in self._tensors:
            return Kernel(self.stored(kernel_name(name)))
        for bits in ROUNDED_BITS.values():
            if codes_name(name, bits) in self._tensors:
                codes, scales = self.stored(codes_name(name, bits)), self.stored(scales_name(name, bits))
                out = self._tensors[codes_name(name, bits)].shape[0]
                columns = self._specs[name.replace(".qkv_proj.", ".q_proj.")].shape[1]
                return RoundedMatrix(codes, scales, bits, out, columns)
        return self.float32(name)

    def has_matrix(self, name: str) -> bool:
        """Whether a dense matrix of that name stands there: that of merged projections need not."""
        forms = (kernel_name(name), *(codes_name(name, bits) for bits in ROUNDED_BITS.values()))
        return name in self._tensors or any(form in self._tensors for form in forms)

    def experts(self, name: str) -> PackedExperts | Int8Experts | ir.Value:
        """An expert matrix [E, out, in]: packed, in int8, or in the dtype that it is stored in."""
        if name in self._tensors:
            return self.stored(name)
        if codes_name(name) in self._tensors:
            return Int8Experts(self.stored(codes_name(name)), self.stored(scales_name(name)))
        return PackedExperts(self.stored(f"{name}_blocks"), self.stored(f"{name}_scales"))

    def fp4_experts(self, name: str) -> Fp4Experts:
        """A packed expert matrix for an operator that reads FP4 itself: the same bytes, in its own types."""
        blocks, scales = self._tensors[f"{name}_blocks"], self._tensors[f"{name}_scales"]
        rows = (*blocks.shape[:2], blocks.shape[2] * blocks.shape[3])
        return Fp4Experts(
            self._external(f"{name}_blocks", blocks, ir.DataType.UINT8, rows),
            self._external(f"{name}_scales", scales, ir.DataType.FLOAT8E8M0, scales.shape),
        )

    def rotation_table(self, name: str) -> ir.Value:
        """`cos` or `sin` of every position's angles, times the concentration, f32 [positions, H/2]."""
        return self.stored(table_name(name))
