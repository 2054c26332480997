"""Recording probes: the model hands every intermediate over, the recorder keeps those that were asked for."""

import difflib
from collections.abc import Collection, Iterable, Mapping

import jax
from gptoss_weights import BLOCK_DEBUG_PROBES, LAYER_PROBES, GptOssConfig, layer_probe, probe_specs

__all__ = ["EXPERT_PROBES", "ProbeRecorder", "check_probes"]

# What happens inside the chosen experts, which no strategy keeps apart: computed for the recorder alone.
EXPERT_PROBES = ("pre_activation", "activated", "expert_outputs")


class ProbeRecorder:
    """Collects the probes of one forward pass that are `wanted` in `values`, in the order of the pass."""

    def __init__(self, wanted: Collection[str]) -> None:
        self.wanted = frozenset(wanted)
        self.values: dict[str, jax.Array] = {}

    def __call__(self, name: str, value: jax.Array) -> None:
        """Keeps a value if its name is wanted."""
        if name in self.wanted:
            self.values[name] = value

    def wants_any(self, names: Iterable[str]) -> bool:
        """Whether any of these names is wanted, so that what serves them alone need not be computed otherwise."""
        return not self.wanted.isdisjoint(names)

    def within(self, layers: Iterable[int]) -> frozenset[str]:
        """The names, inside a layer, of what is wanted of any of these layers."""
        return frozenset(
            probe for layer in layers for probe in LAYER_PROBES if layer_probe(layer, probe) in self.wanted
        )

    def layer(self, layer: int, values: Mapping[str, jax.Array]) -> None:
        """Keeps what is wanted of one layer's probes, given by their names inside the layer."""
        for probe, value in values.items():
            self(layer_probe(layer, probe), value)


def check_probes(wanted: Collection[str], config: GptOssConfig, *, is_sharded: bool = False) -> tuple[str, ...]:
    """The names, sorted and each once, so that equal requests share one compilation.

    Raises:
        ValueError: the model has no such probe, or is sharded and the probe looks inside a layer's parts.
    """
    if isinstance(wanted, str):
        raise ValueError(f"probes is a collection of names, not the one string {wanted!r}")
    known = probe_specs(config, tokens=1, block_debug=True)
    for name in sorted(set(wanted) - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"this model of {config.num_hidden_layers} layers has no probe {name!r}{hint}")
    inner = sorted(name for name in wanted if name.rpartition(".")[2] in BLOCK_DEBUG_PROBES)
    if inner and is_sharded:
        raise ValueError(f"the probe {inner[0]!r} is split over the mesh; load the model without one to record it")
    return tuple(sorted(set(wanted)))
