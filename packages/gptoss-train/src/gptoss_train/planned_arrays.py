"""The arrays of a run without their values: what a device of a mesh holds of each.

What makes the real ones makes these, from a source that gives shapes: the model, LoRA's factors, the choice of what
is trained, and the optimizer's moments. A checkpoint says by its headers which experts it packs. No tensor is read,
nothing is allocated, and the devices of the mesh need not be there.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
from gptoss_model import GptOss, MeshRules, ParameterSpec, Placement
from gptoss_model.ops.mxfp4 import Mxfp4Array
from gptoss_model.parameters import parameter_dtype
from gptoss_model.sharding.partitioning import Partitioning
from gptoss_model.sharding.rules import MESH_AXES
from gptoss_weights import Checkpoint, CheckpointError
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from gptoss_train.config import TrainConfig
from gptoss_train.optimizer import make_optimizer
from gptoss_train.parameters import SplitModel, is_stacked, split_model
from gptoss_train.setup import Method, add_updates, trained_parameters
from gptoss_train.state import TrainState, first_state, parameter_alike

__all__ = ["PlannedArrays", "plan_arrays"]

EMBEDDING = "model.embed_tokens.weight"  # which is looked up in parts


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedArrays:
    """Shapes, and how they are split.

    Attributes:
        state: All that is saved.
        frozen: What is not trained.
        split: The structure of the model.
        mesh: The devices, none of which need be there.
        is_packed: Whether any experts are kept as MXFP4.
    """

    state: TrainState
    frozen: Mapping[str, Any]
    split: SplitModel
    mesh: AbstractMesh
    is_packed: bool

    def parameter_bytes(self) -> int:
        """Of what is trained and what is not, on a device."""
        values = {**self.frozen, **self.state.parameters}
        return sum(_part_bytes(value, self._sharding(name)) for name, value in values.items())

    def trained_values(self) -> int:
        """How many numbers of a device are trained."""
        return sum(
            math.prod(self._sharding(name).shard_shape(value.shape)) for name, value in self.state.parameters.items()
        )

    def moment_bytes(self) -> int:
        """Of the optimizer's state, on a device; what has a parameter's shape is split like it (`init_state`)."""
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        total = 0
        for path, leaf in jax.tree.leaves_with_path(self.state.optimizer):
            name = parameter_alike(path, leaf, self.state.parameters)
            total += _part_bytes(leaf, everywhere if name is None else self._sharding(name))
        return total

    def gathered_bytes(self) -> int:
        """Of the largest layer, or the unembedding, as fsdp brings it together to run it."""
        gathered = dict[str, int]()
        for name, value in {**self.frozen, **self.state.parameters}.items():
            sharding = self._sharding(name)
            if "fsdp" not in str(sharding.spec) or name == EMBEDDING:
                continue
            layers = jax.tree.leaves(value)[0].shape[0] if is_stacked(name) else 1
            [layer] = [part for part in name.split(".") if part.isdigit()] or ["every" if is_stacked(name) else ""]
            whole = _part_bytes(value, sharding) * self.mesh.shape["fsdp"] // layers
            gathered[layer] = gathered.get(layer, 0) + whole
        return max(gathered.values(), default=0)

    def saved_bytes(self) -> int:
        """Of the whole state, over all devices."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.state))

    def _sharding(self, name: str) -> NamedSharding:
        return NamedSharding(self.mesh, self.split.variables[name].get_metadata("partition"))


def plan_arrays(config: TrainConfig, method: Method, base: Checkpoint, rules: MeshRules) -> PlannedArrays:
    """The arrays of a run, as `set_up` would make them.

    Args:
        config: What is asked for.
        method: The command.
        base: What the parameters start from.
        rules: The mesh, without −1.

    Raises:
        CheckpointError: the layers of one stack hold their experts in different forms.
        ConfigError: what is frozen or updated cannot be.
        ValueError: the mesh does not divide the model, or LoRA cannot be added.
    """
    run = config.run
    is_lora = method == "lora"
    stored = jnp.dtype(run.dtype if is_lora else run.weight_dtype)
    packed = {
        name: is_lora and base.array_dtype(name) is None for name, spec in base.specs.items() if spec.is_expert_matrix
    }
    is_packed = any(packed.values())
    mesh = AbstractMesh(rules.sizes, MESH_AXES)
    partitioning = Partitioning.of(base.config, rules, experts="mxfp4" if is_packed else "decoded")
    placement = Placement(cast(Mesh, mesh), partitioning)  # shapes ask it for partitions only, never for devices
    scans = len(set(packed.values())) == 1 if run.scan_layers is None else run.scan_layers
    structures: list[SplitModel] = []

    def zeros(spec: ParameterSpec) -> jax.Array | Mxfp4Array:
        forms = {packed.get(tensor.name, False) for tensor in spec.tensors}
        if len(forms) > 1:
            raise CheckpointError(
                "the layers of one stack hold their experts in different forms",
                where=spec.tensors[0].name,
                fix="Set run.scan_layers=false.",
            )
        if True in forms:
            return Mxfp4Array.zeros(spec.shape)
        return jnp.zeros(spec.shape, parameter_dtype(spec, stored))

    def make() -> tuple[TrainState, dict[str, Any]]:
        # Strategies change no shape; but one that is named is refused where this machine cannot run it.
        model = GptOss(base.config, zeros, dtype=run.dtype, scan_layers=scans, one_stack=True, placement=placement)
        if is_lora:
            add_updates(model, config)
        split, parameters, frozen = split_model(
            model, trained_parameters(config, method), weight_dtype=run.weight_dtype
        )
        structures.append(split)
        optimizer = make_optimizer(config.optimizer, steps=config.steps)
        return first_state(parameters, optimizer), frozen

    state, frozen = jax.eval_shape(make)
    return PlannedArrays(state=state, frozen=frozen, split=structures[0], mesh=mesh, is_packed=is_packed)


def _part_bytes(value: object, sharding: NamedSharding) -> int:
    """Bytes of one device's part of an array, or of both halves of a packed one."""
    return sum(math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(value))
