"""MeshRules: how many parts each of the four ways of splitting a model has, as `data=2,tensor=4`.

- `data` splits the batch; every device has all parameters.
- `fsdp` splits the batch and stores a part of each matrix; a layer is gathered when it runs (ZeRO-3).
- `expert` splits the batch and the experts; tokens travel to the experts.
- `tensor` splits heads, ffn and vocabulary; partial sums travel.
"""

import dataclasses
import difflib
import math

__all__ = ["MESH_AXES", "MeshRules"]

MESH_AXES = ("data", "fsdp", "expert", "tensor")  # the last varies fastest: its devices are neighbours
REST = -1  # as the size of one axis: what the others leave


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshRules:
    """Sizes of the mesh axes; their product is the number of devices.

    Raises:
        ValueError: a size is neither positive nor −1, or more than one is −1.
    """

    data: int = 1
    fsdp: int = 1
    expert: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        for axis in MESH_AXES:
            size = getattr(self, axis)
            if isinstance(size, bool) or not isinstance(size, int) or (size < 1 and size != REST):
                raise ValueError(f"the mesh axis {axis!r} has a positive size, or -1 for the rest, not {size!r}")
        if self.sizes.count(REST) > 1:
            raise ValueError(f"only one mesh axis can be -1, the rest of the devices: {self}")

    @classmethod
    def parse(cls, text: str) -> "MeshRules":
        """Reads `axis=size,axis=size`; an axis that is not named has the size 1.

        Raises:
            ValueError: that is not what the text says, an axis is unknown or named twice, or a size is wrong.
        """
        sizes: dict[str, int] = {}
        for part in text.split(","):
            axis, equals, number = (piece.strip() for piece in part.partition("="))
            if not equals or not axis:
                raise ValueError(f"a mesh is given as 'data=2,tensor=4', not {text!r}")
            if axis not in MESH_AXES:
                near = difflib.get_close_matches(axis, MESH_AXES, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"no mesh axis is called {axis!r}; there are {', '.join(MESH_AXES)}{hint}")
            if axis in sizes:
                raise ValueError(f"the mesh {text!r} names {axis!r} twice")
            try:
                sizes[axis] = int(number)
            except ValueError:
                raise ValueError(f"the mesh axis {axis!r} has a whole number as its size, not {number!r}") from None
        return cls(**sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes, in the order of `MESH_AXES`."""
        return tuple(getattr(self, axis) for axis in MESH_AXES)

    @property
    def device_count(self) -> int:
        """How many devices the mesh has.

        Raises:
            ValueError: an axis is −1; `resolve` says what it comes to.
        """
        if REST in self.sizes:
            raise ValueError(f"the mesh {self} takes the rest of the devices; how many there are is not known here")
        return math.prod(self.sizes)

    def resolve(self, device_count: int) -> "MeshRules":
        """The same with the size that −1 comes to on that many devices.

        Raises:
            ValueError: the sizes do not multiply to the number of devices.
        """
        named = math.prod(size for size in self.sizes if size != REST)
        product = " × ".join(str(size) for size in self.sizes if size not in (1, REST)) or "1"
        product += f" = {named}" if "×" in product else ""
        if REST in self.sizes:
            axis = MESH_AXES[self.sizes.index(REST)]
            if device_count % named:
                raise ValueError(
                    f"the mesh {self} leaves no whole number of devices for {axis!r}: "
                    f"{product} does not divide {device_count} devices"
                )
            return dataclasses.replace(self, **{axis: device_count // named})
        if named != device_count:
            raise ValueError(f"the mesh {self} is one of {product} devices, but there are {device_count}")
        return self

    def __str__(self) -> str:
        named = [f"{axis}={size}" for axis, size in zip(MESH_AXES, self.sizes, strict=True) if size != 1]
        return ",".join(named) or "data=1"
