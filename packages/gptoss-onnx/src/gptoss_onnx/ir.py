"""What a graph is made of before it is written: values, nodes, tensors, graphs; and how they become ONNX's protos.

Nodes hold values and not names, so that a value can take its final name late and what nothing uses can
be left out. There is no more here than the builder needs, and so exporting starts at once:
onnx-ir, which has much more, loads SymPy first, for 2 s and 40 MB.
"""

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto

__all__ = [
    "ArrayTensor",
    "Attribute",
    "DataType",
    "ExternalTensor",
    "Graph",
    "Node",
    "Tensor",
    "Value",
    "model_proto",
    "remove_unused",
]


class DataType(enum.IntEnum):
    """Element types, by ONNX's numbers."""

    FLOAT = TensorProto.FLOAT
    UINT8 = TensorProto.UINT8
    INT8 = TensorProto.INT8
    INT32 = TensorProto.INT32
    INT64 = TensorProto.INT64
    BOOL = TensorProto.BOOL
    FLOAT16 = TensorProto.FLOAT16
    BFLOAT16 = TensorProto.BFLOAT16
    FLOAT8E8M0 = TensorProto.FLOAT8E8M0

    @staticmethod
    def from_numpy(dtype: np.dtype) -> "DataType":
        """The type of an array's elements."""
        return _BY_NAME[dtype.name]


_BY_NAME = {
    "float32": DataType.FLOAT,
    "uint8": DataType.UINT8,
    "int8": DataType.INT8,
    "int32": DataType.INT32,
    "int64": DataType.INT64,
    "bool": DataType.BOOL,
    "float16": DataType.FLOAT16,
    "bfloat16": DataType.BFLOAT16,
}


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayTensor:
    """A tensor whose values stand in the graph itself; the name only matters for an initialiser."""

    array: np.ndarray
    name: str = ""

    @property
    def dtype(self) -> DataType:
        """Of its elements."""
        return DataType.from_numpy(self.array.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its axes."""
        return self.array.shape

    def to_proto(self) -> TensorProto:
        """As ONNX has it: little-endian bytes."""
        content = self.array.astype(self.array.dtype.newbyteorder("<")).tobytes()
        return TensorProto(name=self.name, data_type=self.dtype, dims=self.shape, raw_data=content)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExternalTensor:
    """A tensor whose values are `length` bytes of a file from `offset` on; `path` is relative to the model."""

    name: str
    dtype: DataType
    shape: tuple[int, ...]
    path: str
    offset: int
    length: int

    def to_proto(self) -> TensorProto:
        """As ONNX has it."""
        proto = TensorProto(name=self.name, data_type=self.dtype, dims=self.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self.path), ("offset", self.offset), ("length", self.length)):
            proto.external_data.add(key=key, value=str(value))
        return proto


type Tensor = ArrayTensor | ExternalTensor


@dataclasses.dataclass(eq=False)
class Value:
    """What an edge of the graph carries; two are the same only if they are one object.

    Attributes:
        name: Unique in the graph and its bodies once it is written.
        dtype: None where ONNX infers it.
        shape: Numbers, names of axes, or None for any; None as a whole where ONNX infers it.
        tensor: Of an initialiser.
    """

    name: str
    dtype: DataType | None = None
    shape: tuple[int | str | None, ...] | None = None
    tensor: Tensor | None = None

    def to_proto(self) -> onnx.ValueInfoProto:
        """As ONNX has inputs and outputs."""
        if self.dtype is None:
            return onnx.ValueInfoProto(name=self.name)
        return onnx.helper.make_tensor_value_info(self.name, self.dtype, self.shape)


type Attribute = int | float | str | Sequence[int] | Tensor | Graph


@dataclasses.dataclass(eq=False, kw_only=True)
class Node:
    """One operator with what goes in (None for an optional input that is absent) and what comes out."""

    name: str
    op_type: str
    domain: str
    inputs: Sequence[Value | None]
    outputs: Sequence[Value]
    attributes: Mapping[str, Attribute]

    @property
    def bodies(self) -> "list[Graph]":
        """The graphs inside it."""
        return [attribute for attribute in self.attributes.values() if isinstance(attribute, Graph)]

    def to_proto(self) -> onnx.NodeProto:
        """As ONNX has it; trailing absent inputs are left out."""
        names = ["" if value is None else value.name for value in self.inputs]
        while names and not names[-1]:
            names.pop()
        return onnx.NodeProto(
            name=self.name,
            op_type=self.op_type,
            domain=self.domain or None,
            input=names,
            output=[value.name for value in self.outputs],
            attribute=[_attribute_proto(key, attribute) for key, attribute in self.attributes.items()],
        )


@dataclasses.dataclass(eq=False, kw_only=True)
class Graph:
    """A graph, or the body of a loop, which may read the values of the graph around it.

    Attributes:
        name: Unique in the model.
        inputs: Of the graph.
        outputs: Of the graph.
        nodes: In an order in which they can be computed.
        initializers: Values that have a tensor; none in a body.
        opsets: Domain → version of its operators; none in a body.
    """

    name: str
    inputs: Sequence[Value]
    outputs: Sequence[Value]
    nodes: Sequence[Node]
    initializers: Sequence[Value] = ()
    opsets: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def all_nodes(self) -> Iterator[Node]:
        """Every node, those of bodies included."""
        for node in self.nodes:
            yield node
            for body in node.bodies:
                yield from body.all_nodes()

    def to_proto(self) -> onnx.GraphProto:
        """As ONNX has it."""
        tensors = [value.tensor for value in self.initializers if value.tensor is not None]
        return onnx.GraphProto(
            name=self.name,
            input=[value.to_proto() for value in self.inputs],
            output=[value.to_proto() for value in self.outputs],
            node=[node.to_proto() for node in self.nodes],
            initializer=[tensor.to_proto() for tensor in tensors],
        )


def _attribute_proto(name: str, attribute: Attribute) -> onnx.AttributeProto:
    if isinstance(attribute, ArrayTensor | ExternalTensor | Graph):
        return onnx.helper.make_attribute(name, attribute.to_proto())
    return onnx.helper.make_attribute(name, attribute)


def remove_unused(graph: Graph) -> None:
    """Leaves out the nodes and initialisers from which no output comes, in bodies too."""
    needed = set(graph.outputs)
    _keep_needed(graph, needed)
    graph.initializers = [value for value in graph.initializers if value in needed]


def _keep_needed(graph: Graph, needed: set[Value]) -> None:
    """From the last node to the first: what a kept node reads, an earlier one must give."""
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.outputs):
            continue
        for body in node.bodies:
            needed.update(body.outputs)
            _keep_needed(body, needed)
        needed.update(value for value in node.inputs if value is not None)
        kept.append(node)
    graph.nodes = kept[::-1]


def model_proto(
    graph: Graph,
    *,
    ir_version: int,
    producer: tuple[str, str] = ("", ""),
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """A graph as a model.

    Args:
        graph: The main graph.
        ir_version: Of the file format.
        producer: Name and version of what made it.
        metadata: Its `metadata_props`.
    """
    properties: Iterable[tuple[str, str]] = (metadata or {}).items()
    return onnx.ModelProto(
        ir_version=ir_version,
        producer_name=producer[0],
        producer_version=producer[1],
        graph=graph.to_proto(),
        opset_import=[onnx.OperatorSetIdProto(domain=name, version=number) for name, number in graph.opsets.items()],
        metadata_props=[onnx.StringStringEntryProto(key=key, value=value) for key, value in properties],
    )
