"""Recipes: a mesh, a batch and a length for each published model on common TPU slices and GPUs.

What they need is computed by `memory_per_device`; nothing here is a measurement. A slice of TPU v4 or
v5p is named by its cores, two a chip, which JAX sees as one device: v5p-8 has four. Memory of a chip
is what its maker states.

Why these meshes. Within one host everything is near, so serving splits by `tensor`: weights and cache
are divided, and one sequence is answered as fast as the devices can together. Large batches on many
devices go by `expert`: sequences are divided and only tokens travel. `fsdp` divides storage, but moves
weights in every step: for training, and for prompts of many tokens.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from gptoss_weights import GPT_OSS_20B, GPT_OSS_120B, GptOssConfig

from gptoss_model.sharding.memory import DeviceMemory, memory_per_device
from gptoss_model.sharding.rules import MeshRules

__all__ = ["ACCELERATORS", "RECIPES", "Accelerator", "Recipe"]

GIB = 1 << 30
GB = 10**9
PUBLISHED: Mapping[str, GptOssConfig] = MappingProxyType({"gpt-oss-20b": GPT_OSS_20B, "gpt-oss-120b": GPT_OSS_120B})


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One device as JAX sees it: a TPU chip or a GPU.

    Attributes:
        name: As its maker calls it.
        memory_bytes: Of one device.
    """

    name: str
    memory_bytes: int


ACCELERATORS: Mapping[str, Accelerator] = MappingProxyType(
    {
        key: Accelerator(name, memory)
        for key, name, memory in (
            # https://cloud.google.com/tpu/docs/system-architecture-tpu-vm, memory of a chip
            ("v4", "TPU v4", 32 * GIB),
            ("v5e", "TPU v5e", 16 * GB),
            ("v5p", "TPU v5p", 95 * GB),
            ("v6e", "TPU v6e", 32 * GB),
            # the data sheets of NVIDIA
            ("4090", "GeForce RTX 4090", 24 * GIB),
            ("a100-40", "A100 40 GB", 40 * GIB),
            ("a100-80", "A100 80 GB", 80 * GIB),
            ("h100", "H100 80 GB", 80 * GIB),
        )
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to run one model on one machine.

    Attributes:
        model: A published model.
        machine: What it runs on, as it is ordered.
        accelerator: Key of `ACCELERATORS`.
        rules: The mesh, as `--mesh` takes it.
        experts: Form of the expert matrices.
        batch: Sequences at a time.
        length: Tokens of each.
    """

    model: str
    machine: str
    accelerator: str
    rules: str
    experts: Literal["mxfp4", "decoded"] = "mxfp4"
    batch: int
    length: int

    @property
    def devices(self) -> int:
        """How many the mesh has."""
        return MeshRules.parse(self.rules).device_count

    @property
    def share(self) -> float:
        """The part of a device's memory that is needed before a step computes anything."""
        return self.memory().total / ACCELERATORS[self.accelerator].memory_bytes

    def memory(self) -> DeviceMemory:
        """Bytes on one device."""
        return memory_per_device(
            PUBLISHED[self.model], self.rules, batch=self.batch, length=self.length, experts=self.experts
        )


def _recipe(
    model: str, machine: str, accelerator: str, rules: str, batch: int, length: int, *, decoded: bool = False
) -> Recipe:
    return Recipe(
        model=f"gpt-oss-{model}",
        machine=machine,
        accelerator=accelerator,
        rules=rules,
        experts="decoded" if decoded else "mxfp4",
        batch=batch,
        length=length,
    )


RECIPES = (
    _recipe("20b", "1 × RTX 4090", "4090", "data=1", 2, 131072),
    _recipe("20b", "1 × H100", "h100", "data=1", 16, 131072),
    _recipe("20b", "1 × H100", "h100", "data=1", 8, 131072, decoded=True),
    _recipe("20b", "8 × A100 40 GB", "a100-40", "tensor=8", 64, 131072),
    _recipe("20b", "v5e-8", "v5e", "tensor=8", 24, 131072),
    _recipe("20b", "v5e-8", "v5e", "expert=8", 64, 32768),
    _recipe("20b", "v6e-8", "v6e", "data=2,tensor=4", 48, 131072),
    _recipe("20b", "v4-8", "v4", "tensor=4", 32, 131072),
    _recipe("20b", "v5p-8", "v5p", "tensor=4", 64, 131072, decoded=True),
    _recipe("120b", "1 × H100", "h100", "data=1", 1, 131072),
    _recipe("120b", "8 × H100", "h100", "tensor=8", 64, 131072),
    _recipe("120b", "8 × H100", "h100", "tensor=8", 32, 131072, decoded=True),
    _recipe("120b", "8 × A100 40 GB", "a100-40", "tensor=8", 32, 131072),
    _recipe("120b", "8 × A100 80 GB", "a100-80", "expert=8", 64, 131072),
    _recipe("120b", "v5e-8", "v5e", "tensor=8", 8, 131072),
    _recipe("120b", "v5e-16", "v5e", "expert=2,tensor=8", 24, 131072),
    _recipe("120b", "v6e-8", "v6e", "tensor=8", 16, 131072),
    _recipe("120b", "v4-8", "v4", "tensor=4", 8, 131072),
    _recipe("120b", "v5p-8", "v5p", "tensor=4", 32, 131072),
    _recipe("120b", "v5p-16", "v5p", "fsdp=2,tensor=4", 32, 32768, decoded=True),
)
