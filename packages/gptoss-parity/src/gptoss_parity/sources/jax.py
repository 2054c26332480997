"""gptoss-model as a source: the NNX model of the Flax side."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from gptoss_model import GptOss, generate, load_model, make_mesh
from gptoss_weights import Checkpoint, MissingDependencyError

from gptoss_parity.sources.base import (
    DTYPES,
    Dtype,
    ExpertChoices,
    LoadingSource,
    check_tokens,
    forced_choices,
    metadata_of,
    wanted_probes,
)
from gptoss_parity.trace import Trace

__all__ = ["JaxSource"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JaxSource(LoadingSource):
    """Records what `gptoss_model.GptOss` computes.

    Attributes:
        moe: Its strategy for the experts.
        attention: Its strategy for attention.
        experts: The form in which it keeps them: `stored`, `mxfp4` or `decoded`.
        scan_layers: Whether its layers are a compiled loop; its experts cannot be replayed then.
        mesh: Rules such as `tensor=2`, or None for one device.
    """

    moe: str = "auto"
    attention: str = "auto"
    experts: str = "stored"
    scan_layers: bool = False
    mesh: str | None = None

    @property
    def name(self) -> str:
        """What traces and reports call it."""
        return "jax"

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """What it can compute in."""
        return DTYPES

    @property
    def can_replay(self) -> bool:  # type: ignore[override]  # known only once it is configured
        """Whether it can be made to take other experts than its router chose."""
        return not self.scan_layers and self.mesh is None

    @property
    def options(self) -> dict[str, str]:
        """What reports say of how it ran; what is left as it is by default goes without saying."""
        fields = {field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)}
        return {name: str(value) for name, (value, default) in fields.items() if name == "moe" or value != default}

    def load(self, checkpoint: Checkpoint, *, dtype: Dtype = "float32") -> "_JaxRunner":
        """The model on the default device or on the mesh.

        Raises:
            ValueError: an option has a value that is not allowed.
            MissingDependencyError: this machine cannot run a strategy, or lacks the devices of the mesh.
        """
        return _JaxRunner(checkpoint, self._model(checkpoint, dtype), dtype, self)

    def generate(
        self, checkpoint: Checkpoint, tokens: Sequence[int], *, max_new_tokens: int, dtype: Dtype = "float32"
    ) -> list[int]:
        """The new ids of a greedy continuation through the KV cache, past any end-of-text token."""
        prompt = check_tokens(checkpoint, tokens).tolist()
        return generate(self._model(checkpoint, dtype), [prompt], max_new_tokens=max_new_tokens)[0]

    def _model(self, checkpoint: Checkpoint, dtype: Dtype) -> GptOss:
        try:
            mesh = None if self.mesh is None else make_mesh(self.mesh)
        except ValueError as error:
            raise MissingDependencyError(str(error)) from None
        return load_model(
            checkpoint,
            dtype=jnp.dtype(dtype),
            experts=self.experts,  # type: ignore[arg-type]  # load_model refuses any other word
            moe=self.moe,
            attention=self.attention,
            scan_layers=self.scan_layers,
            mesh=mesh,
        )


@dataclasses.dataclass(frozen=True)
class _JaxRunner:
    checkpoint: Checkpoint
    model: GptOss
    dtype: Dtype
    source: JaxSource

    def run(self, tokens: Sequence[int], *, block_debug: bool = False, choices: ExpertChoices | None = None) -> Trace:
        prompt = check_tokens(self.checkpoint, tokens)
        forced = forced_choices(self.checkpoint, prompt, choices)
        model = self.model if forced is None else self._replaying(forced)
        probes = wanted_probes(self.checkpoint, prompt, block_debug=block_debug)
        output = model(jnp.asarray(prompt[None], jnp.int32), probes=probes)
        arrays = {name: np.asarray(array[0]) for name, array in output.probes.items()}
        arrays["logits"] = np.asarray(output.logits[0])
        metadata = metadata_of(
            self.checkpoint,
            source=self.source.name,
            dtype=self.dtype,
            distributions=("flax", "gptoss-model", "gptoss-parity", "gptoss-weights", "jax", "jaxlib", "numpy"),
            options=self.source.options,
            is_replayed=forced is not None,
        )
        return Trace(prompt, arrays, metadata)

    def _replaying(self, forced: Sequence[np.ndarray]) -> GptOss:
        """The same model, on the same arrays, whose routers take the experts they are told.

        Raises:
            ValueError: the layers are a compiled loop, or lie on a mesh.
        """
        if not self.source.can_replay:
            raise ValueError("experts are replayed only without scan_layers and without a mesh")
        model = nnx.merge(*nnx.split(self.model))  # the modules anew, the parameters shared
        layers: Any = model.model.layers  # a list of layers, for they are not scanned
        for layer, indices in zip(layers, forced, strict=True):
            layer.mlp.router = _ForcedRouter(layer.mlp.router, indices)
        return model


class _ForcedRouter(nnx.Module):
    """A router whose choice is given; logits and weights stay its own."""

    def __init__(self, router: Any, indices: np.ndarray) -> None:
        self.router = router
        self.indices = nnx.Variable(jnp.asarray(indices, jnp.int32))

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        logits, _, _ = self.router(x)
        indices = self.indices[...]
        chosen = jnp.take_along_axis(logits, indices, axis=-1)
        weights = jax.nn.softmax(chosen.astype(jnp.float32), axis=-1)
        kept: Any = jax.numpy.finfo(logits.dtype)  # type: ignore[no-untyped-call]  # a cast alone XLA may leave out, and compute on in float32
        weights = jax.lax.reduce_precision(weights, exponent_bits=kept.nexp, mantissa_bits=kept.nmant)
        return logits, indices, weights.astype(logits.dtype)
