"""The device mesh that rules stand for."""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh

from gptoss_model.sharding.rules import MESH_AXES, MeshRules

__all__ = ["make_mesh", "mesh_rules"]


def make_mesh(rules: MeshRules | str, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the axes data, fsdp, expert and tensor, for `load_model(…, mesh=…)`.

    Args:
        rules: Sizes of the axes, or a text such as `data=2,tensor=4` (`MeshRules.parse`).
        devices: All that JAX knows, on every host, if None. Neighbours on the network become
            neighbours along `tensor`, then `expert`.

    Raises:
        ValueError: the text is wrong, or the sizes do not multiply to the number of devices.
    """
    rules = MeshRules.parse(rules) if isinstance(rules, str) else rules
    devices = list(jax.devices() if devices is None else devices)
    try:
        sizes = rules.resolve(len(devices)).sizes
    except ValueError as error:
        if devices[0].platform != "cpu":
            raise
        raise ValueError(
            f"{error}. On a CPU the environment variable JAX_NUM_CPU_DEVICES says how many JAX makes of it"
        ) from None
    return jax.make_mesh(sizes, MESH_AXES, devices=devices, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def mesh_rules(mesh: Mesh) -> MeshRules:
    """The sizes of a mesh's axes; an axis that it lacks has the size 1.

    Raises:
        ValueError: it has another axis than those four.
    """
    unknown = [axis for axis in mesh.axis_names if axis not in MESH_AXES]
    if unknown:
        raise ValueError(f"a mesh for GPT-OSS has the axes {', '.join(MESH_AXES)}, not {', '.join(map(str, unknown))}")
    return MeshRules(**{str(axis): size for axis, size in mesh.shape.items()})
