"""GraphBuilder: writes ONNX nodes as calls, with names that are unique over the graph and all its bodies.

`op.MatMul(q, k)` appends a node and returns its output. Names follow the scopes that are open
(`model.layers.3.self_attn.q_proj`), so that a viewer shows the model's own words. A Loop body shares
no name with its parent, which ONNX forbids.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from gptoss_onnx import ir

__all__ = ["INT64_MAX", "MICROSOFT", "OPSET", "GraphBuilder"]

OPSET = 21  # the oldest with int8 and uint8 where MXFP4 needs them; ONNX Runtime reads it from 1.20 on
MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operators
INT64_MAX = np.iinfo(np.int64).max  # "to the end" in Slice


class GraphBuilder:
    """Collects the nodes and initialisers of one graph.

    Attributes:
        nodes: The nodes of the graph, or of the innermost open body.
        initializers: Name → value; constants are shared by their bytes.
        domains: Those of operators that are not ONNX's own.
    """

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}
        self.domains: set[str] = set()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._taken: set[str] = set()
        self._scopes: list[str] = []

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        """The operator of that name, as a function from values to its one output."""
        if not op_type[:1].isupper():
            raise AttributeError(f"{op_type} is neither an ONNX operator nor an attribute")

        def call(
            *inputs: ir.Value | None, name: str | None = None, domain: str = "", **attributes: ir.Attribute
        ) -> ir.Value:
            return self.many(op_type, 1, *inputs, name=name, domain=domain, **attributes)[0]

        return call

    def many(
        self,
        op_type: str,
        outputs: int | Sequence[bool],
        *inputs: ir.Value | None,
        name: str | None = None,
        domain: str = "",
        **attributes: ir.Attribute,
    ) -> tuple[ir.Value, ...]:
        """An operator with several outputs: so many, or those that are wanted; the others have no name.

        `name` is its name inside the scope; by default its type.
        """
        node_name = self.unique_name(name or op_type)
        wanted = [True] * outputs if isinstance(outputs, int) else outputs
        numbered = [f"{node_name}.{index}" if is_wanted else "" for index, is_wanted in enumerate(wanted)]
        names = [node_name] if len(wanted) == 1 else numbered
        values = tuple(ir.Value(name) for name in names)
        if domain:
            self.domains.add(domain)
        self.nodes.append(
            ir.Node(
                name=node_name, op_type=op_type, domain=domain, inputs=inputs, outputs=values, attributes=attributes
            )
        )
        return values

    def unique_name(self, name: str) -> str:
        """`name` inside the open scopes, numbered where it is taken."""
        full = ".".join([*self._scopes, name])
        candidate, number = full, 1
        while candidate in self._taken:
            number += 1
            candidate = f"{full}_{number}"
        self._taken.add(candidate)
        return candidate

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefixes the names of everything made inside."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    @contextlib.contextmanager
    def body(self) -> Iterator[list[ir.Node]]:
        """Collects nodes for a subgraph; its initialisers stay with the main graph, which it may read."""
        outer, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = outer

    def input(self, name: str, dtype: ir.DataType, *shape: int | str | None) -> ir.Value:
        """A value that comes from outside: an input of the graph, or of the body that is being built."""
        return ir.Value(self.unique_name(name), dtype, shape)

    def initializer(self, tensor: ir.Tensor) -> ir.Value:
        """The value of a named tensor; the same value when it is asked for again."""
        name = tensor.name
        if not name:
            raise ValueError("an initialiser needs a name")
        if name not in self.initializers:
            self._taken.add(name)
            self.initializers[name] = ir.Value(name, tensor.dtype, tensor.shape, tensor)
        return self.initializers[name]

    def constant(self, value: ArrayLike, dtype: DTypeLike, *, name: str | None = None) -> ir.Value:
        """A constant, made once for all places that need the same."""
        array = np.asarray(value, dtype)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            shown = name or "_".join(map(str, array.reshape(-1)[:6]))
            shape = "x".join(map(str, array.shape)) or "scalar"
            full = re.sub(r"[^\w.+-]", "", f"constant.{array.dtype.name}.{shape}.{shown}")
            while full in self._taken:
                full += "_"
            self._constants[key] = self.initializer(ir.ArrayTensor(array, full))
        return self._constants[key]

    def graph(self, name: str, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Graph:
        """All that was made so far, as a graph."""
        return ir.Graph(
            name=name,
            inputs=inputs,
            outputs=outputs,
            nodes=self.nodes,
            initializers=list(self.initializers.values()),
            opsets={"": OPSET} | dict.fromkeys(sorted(self.domains), 1),
        )

    def ints(self, *values: int) -> ir.Value:
        """An int64 vector: axes, shapes, slice bounds."""
        return self.constant(values, np.int64)

    def scalar(self, value: float, dtype: DTypeLike = np.float32) -> ir.Value:
        """A scalar."""
        return self.constant(value, dtype)

    def size(self, value: ir.Value, axis: int) -> ir.Value:
        """The extent of one axis, int64 [1]."""
        return self.Shape(value, start=axis, end=axis + 1)

    def slice(
        self, value: ir.Value, start: ir.Value | int, stop: ir.Value | int, *, axis: int, step: int = 1
    ) -> ir.Value:
        """`value[start:stop:step]` along one axis."""
        first = self.ints(start) if isinstance(start, int) else start
        last = self.ints(stop) if isinstance(stop, int) else stop
        return self.Slice(value, first, last, self.ints(axis), self.ints(step))

    def reshape(self, value: ir.Value, *extents: ir.Value | int, name: str | None = None) -> ir.Value:
        """Reshapes to extents that are numbers or int64 [1] values."""
        if all(isinstance(extent, int) for extent in extents):
            shape = self.ints(*(extent for extent in extents if isinstance(extent, int)))
        else:
            parts = [self.ints(extent) if isinstance(extent, int) else extent for extent in extents]
            shape = self.Concat(*parts, axis=0)
        return self.Reshape(value, shape, name=name)
