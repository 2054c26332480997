"""What compiled programs send: read from XLA's own text."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import load_model, make_mesh

pytestmark = pytest.mark.slow

B, T, D, k = 8, 5, 96, 3
READ_ONLY = {"xla_backend_optimization_level": 0}  # programs that never run: the same text and memory, sooner compiled
COLLECTIVE = re.compile(r"= \(?(\w+)\[([\d,]*)\].*? (all-gather|all-reduce|all-to-all|reduce-scatter)(?:-start)?\(")


def sent(checkpoint, rules: str) -> list[tuple[str, str, tuple[int, ...], bool]]:
    """Kind, dtype, shape of the result and whether it is in the loop over layers, of each collective of a step."""
    model = load_model(checkpoint, dtype=jnp.float32, scan_layers=True, mesh=make_mesh(rules))
    step = jax.jit(lambda model, *arguments: model.extend(*arguments))
    lowered = step.lower(model, np.ones((B, T), np.int32), np.ones((B, T), bool), model.init_cache(B, 32))
    program = lowered.compile(compiler_options=READ_ONLY)
    return [
        (found[3], found[1], tuple(map(int, found[2].split(","))), "while/body" in line)
        for line in program.as_text().splitlines()
        if (found := COLLECTIVE.search(line))
    ]


def test_expert_and_tensor_parallel_send_tokens_and_sums_but_no_weights(splittable):
    own, group = B * T // 2, B * T  # tokens of a device, and of its expert group
    in_a_layer = [
        ("all-reduce", "f32", (own, D)),  # sums over heads
        ("all-gather", "f32", (group, D)),
        ("all-gather", "s32", (group, k)),
        ("all-gather", "f32", (group, k)),
        ("reduce-scatter", "f32", (own, D)),  # sums over experts
        ("all-reduce", "f32", (own, D)),  # and over parts of the ffn
    ]
    found = sent(splittable, "expert=2,tensor=4")
    assert sorted(what for *what, is_in_loop in found if is_in_loop) == sorted(map(list, in_a_layer * 2))
    assert [what for *what, is_in_loop in found if not is_in_loop] == [["all-reduce", "f32", (B // 2, T, D)]]


def test_data_parallel_sends_nothing(splittable):
    assert sent(splittable, "data=8") == []


@pytest.mark.parametrize("rules", ["fsdp=8", "fsdp=2,expert=2,tensor=2"])
def test_fsdp_gathers_packed_experts_of_one_layer_at_a_time(splittable, rules):
    config, expert_parts = splittable.config, 2 if "expert" in rules else 1
    tensor_parts = 2 if "tensor" in rules else 1
    E, F = config.num_experts // expert_parts, config.intermediate_size // tensor_parts
    packed = sorted(shape for kind, dtype, shape, is_in_loop in sent(splittable, rules) if dtype == "u8")
    of_a_layer = [(E, 2 * F, D // 32, 16), (E, 2 * F, D // 32), (E, D, F // 32, 16), (E, D, F // 32)]
    assert packed == sorted(of_a_layer * 2)
