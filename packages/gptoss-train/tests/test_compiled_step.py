"""What the compiled step is made of: no array of logits, and one body for all layers."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_train.batch import Batch
from gptoss_train.config import GeometryConfig, LossConfig, TrainConfig
from gptoss_train.placing import place_batch
from gptoss_train.setup import set_up

ROWS, LENGTH, VOCABULARY, CHUNK = 4, 24, 212, 50
LINES_PER_LAYER = 12  # a layer's router logits are taken out of the stack, one by one
READ_ONLY = {"xla_backend_optimization_level": 0}  # programs that never run: the same text and memory, sooner compiled


def lowered_step(layers: int, *, parts: int = 1) -> jax.stages.Lowered:
    """Of new weights; nothing is computed."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "head_dim": 16, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "num_experts": 6, "experts_per_token": 2, "sliding_window": 11}
    config = TrainConfig(
        model="gpt-oss-20b",
        geometry=GeometryConfig(num_hidden_layers=layers, vocab_size=VOCABULARY, **sizes, **more),
        batch_size=ROWS,
        sequence_length=LENGTH,
        gradient_accumulation=parts,
        loss=LossConfig(vocabulary_chunk=CHUNK),
    )
    run = set_up(config, "pretrain")
    batch = Batch(*(np.ones((ROWS, LENGTH), kind) for kind in ("i4", "i4", "f4", "i4", "i4")))
    return run.step.trace(run.state, run.frozen, place_batch(batch, run)).lower()  # type: ignore[attr-defined]


def logit_arrays(text: str, rows: int) -> set[tuple[int, ...]]:
    """Shapes in a program that have the vocabulary, and as many elements as rows and vocabulary together."""
    found = {tuple(map(int, shape.split(","))) for shape in re.findall(r"\w\[(\d+(?:,\d+)*)\]", text)}
    return {shape for shape in found if VOCABULARY in shape and math.prod(shape) >= rows * VOCABULARY}


@pytest.mark.numbers
@pytest.mark.parametrize("parts", [1, 2])
def test_no_array_of_the_step_has_tokens_and_vocabulary(parts):
    text = lowered_step(2, parts=parts).compile(compiler_options=READ_ONLY).as_text()
    assert text is not None
    rows = ROWS * LENGTH // parts
    assert not logit_arrays(text, rows)
    assert f"[{rows},1,{CHUNK}]" in text or f"[{rows},{CHUNK}]" in text, "a chunk of logits"


def test_a_plain_loss_would_be_found():
    def loss(hidden: jax.Array, matrix: jax.Array, targets: jax.Array) -> jax.Array:
        scores = jax.nn.log_softmax(hidden @ matrix.T)
        return -jnp.take_along_axis(scores, targets[..., None], axis=-1).sum()

    hidden, targets = jnp.ones((ROWS, LENGTH, 32)), jnp.zeros((ROWS, LENGTH), jnp.int32)
    text = jax.jit(jax.grad(loss)).lower(hidden, jnp.ones((VOCABULARY, 32)), targets).compile().as_text()
    assert text is not None
    assert logit_arrays(text, ROWS * LENGTH)


@pytest.mark.numbers
def test_a_deeper_model_is_no_larger_program():
    """Layers are a loop: 16 of them take hardly more lines to compile than 4."""
    shallow, deep = (len(lowered_step(layers).as_text().splitlines()) for layers in (4, 16))
    assert deep - shallow <= (16 - 4) * LINES_PER_LAYER < shallow / 20
