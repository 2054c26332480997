"""The device mesh that rules stand for."""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh

from gptoss_model.sharding.rules import MESH_AXES, REST, MeshRules

__all__ = ["make_mesh", "mesh_rules"]


def make_mesh(rules: MeshRules | str, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the axes data, fsdp, expert and tensor, for `load_model(…, mesh=…)`.

    Args:
        rules: Sizes of the axes, or a text such as `data=2,tensor=4` (`MeshRules.parse`).
        devices: If None, the first that JAX knows, as many as the sizes need; in several processes
            all that it knows, on every host. Neighbours on the network become neighbours along
            `tensor`, then `expert`.

    Raises:
        ValueError: the text is wrong, or the sizes do not multiply to the number of devices.
    """
    rules = MeshRules.parse(rules) if isinstance(rules, str) else rules
    devices = _first_devices(rules) if devices is None else list(devices)
    try:
        sizes = rules.resolve(len(devices)).sizes
    except ValueError as error:
        if devices[0].platform != "cpu":
            raise
        raise ValueError(
            f"{error}. On a CPU the environment variable JAX_NUM_CPU_DEVICES says how many JAX makes of it"
        ) from None
    return jax.make_mesh(sizes, MESH_AXES, devices=devices, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def _first_devices(rules: MeshRules) -> list[jax.Device]:
    devices = jax.devices()
    if REST in rules.sizes or jax.process_count() > 1:  # a process without a part of the mesh could not take part
        return devices
    return devices[: rules.device_count]


def mesh_rules(mesh: Mesh) -> MeshRules:
    """The sizes of a mesh's axes; an axis that it lacks has the size 1.

    Raises:
        ValueError: it has another axis than those four.
    """
    unknown = [axis for axis in mesh.axis_names if axis not in MESH_AXES]
    if unknown:
        raise ValueError(f"a mesh for GPT-OSS has the axes {', '.join(MESH_AXES)}, not {', '.join(map(str, unknown))}")
    return MeshRules(**{str(axis): size for axis, size in mesh.shape.items()})
