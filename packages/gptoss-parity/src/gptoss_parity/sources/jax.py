"""gptoss-model as a source: the NNX model of the Flax side."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from gptoss_model import generate, load_model
from gptoss_weights import Checkpoint

from gptoss_parity.sources.base import DTYPES, Dtype, check_tokens, metadata_of, wanted_probes
from gptoss_parity.trace import Trace

__all__ = ["JaxSource"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JaxSource:
    """Records what `gptoss_model.GptOss` computes; `moe` is its strategy for the experts."""

    moe: str = "auto"

    @property
    def name(self) -> str:
        """What traces and reports call it."""
        return "jax"

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """What it can compute in."""
        return DTYPES

    def record(self, checkpoint: Checkpoint, tokens: Sequence[int], *, dtype: Dtype = "float32") -> Trace:
        """One forward pass over a batch of one prompt; see `Source.record`."""
        prompt = check_tokens(checkpoint, tokens)
        model = load_model(checkpoint, dtype=jnp.dtype(dtype), moe=self.moe)
        probes = wanted_probes(checkpoint, prompt)
        output = model(jnp.asarray(prompt[None], jnp.int32), probes=probes)
        arrays = {name: np.asarray(array[0]) for name, array in output.probes.items()}
        arrays["logits"] = np.asarray(output.logits[0])
        metadata = metadata_of(
            checkpoint,
            source=self.name,
            dtype=dtype,
            distributions=("flax", "gptoss-model", "gptoss-parity", "gptoss-weights", "jax", "jaxlib", "numpy"),
            options={"moe": self.moe},
        )
        return Trace(prompt, arrays, metadata)

    def generate(
        self, checkpoint: Checkpoint, tokens: Sequence[int], *, max_new_tokens: int, dtype: Dtype = "float32"
    ) -> list[int]:
        """The new ids of a greedy continuation through the KV cache, past any end-of-text token."""
        prompt = check_tokens(checkpoint, tokens).tolist()
        model = load_model(checkpoint, dtype=jnp.dtype(dtype), moe=self.moe)
        return generate(model, [prompt], max_new_tokens=max_new_tokens)[0]
