"""Live: PEFT loads our adapters over transformers' model, and computes what our merged checkpoint does there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gptoss_model
import numpy as np
import pytest
from gptoss_train.adapters import Adapter, Update, merged
from gptoss_train.peft_format import save_peft_adapter
from gptoss_weights import Checkpoint, GptOssConfig, open_checkpoint, random_checkpoint, save_checkpoint
from gptoss_weights.testing import tiny_config

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),  # what PEFT calls there
]

RANK, ALPHA, SIZE = 3, 5.0, 0.05
EXPERTS = ("gate_up_proj", "down_proj")
LIMIT = 1e-5  # relative L2 of logits
PROMPT_LENGTH = 29  # past the window of 11


@pytest.mark.parametrize(
    ("parts", "with_router", "is_packed"),
    [
        (EXPERTS, True, True),
        (EXPERTS, False, False),
        (EXPERTS[:1], False, False),
        (EXPERTS[1:], True, False),
        ((), False, True),
    ],
)
def test_peft_computes_what_the_merged_checkpoint_does(
    parts: tuple[str, ...],
    with_router: bool,
    is_packed: bool,
    tmp_path: Path,
    load_in_transformers: Callable[[Path], Any],
    torch_logits: Callable[[Any, list[int]], np.ndarray],
) -> None:
    import peft

    save_checkpoint(
        random_checkpoint(tiny_config(num_hidden_layers=2), seed=3),
        tmp_path / "base",
        format="hf" if is_packed else "hf-bf16",
    )
    base = open_checkpoint(tmp_path / "base")
    adapter = random_adapter(base.config, parts, with_router=with_router)
    save_peft_adapter(adapter, tmp_path / "adapter", config=base.config, base_model=str(tmp_path / "base"))
    tokens = np.random.default_rng(1).integers(0, base.config.vocab_size, PROMPT_LENGTH).tolist()
    expected = our_logits(merged(base, adapter), tokens)
    theirs = load_in_transformers(tmp_path / "base")
    assert relative(torch_logits(theirs, tokens), expected) > 0.01  # the adapter does something
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    assert relative(torch_logits(adapted, tokens), expected) < LIMIT


def our_logits(checkpoint: Checkpoint, tokens: list[int]) -> np.ndarray:
    model = gptoss_model.load_model(checkpoint, dtype="float32", experts="decoded")
    return np.asarray(model(np.array([tokens])).logits[0])


def random_adapter(config: GptOssConfig, parts: tuple[str, ...], *, with_router: bool) -> Adapter:
    rng = np.random.default_rng(0)
    E, D, F = config.num_experts, config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (config.q_size, D),
        "self_attn.k_proj.weight": (config.kv_size, D),
        "self_attn.v_proj.weight": (config.kv_size, D),
        "self_attn.o_proj.weight": (D, config.q_size),
    }
    shapes |= {f"mlp.experts.{part}": {"gate_up_proj": (E, 2 * F, D), "down_proj": (E, D, F)}[part] for part in parts}
    updates, replaced = {}, {}
    for layer in range(config.num_hidden_layers):
        for name, (*leading, out, width) in shapes.items():
            a, b = rng.normal(0, SIZE, (*leading, RANK, width)), rng.normal(0, SIZE, (*leading, out, RANK))
            updates[f"model.layers.{layer}.{name}"] = Update(
                a=a.astype(np.float32), b=b.astype(np.float32), scale=ALPHA / RANK
            )
        if with_router:
            replaced[f"model.layers.{layer}.mlp.router.weight"] = rng.normal(0, 0.1, (E, D)).astype(np.float32)
            replaced[f"model.layers.{layer}.mlp.router.bias"] = rng.normal(0, 0.1, E).astype(np.float32)
    return Adapter(updates=updates, replaced=replaced, rank=RANK, alpha=ALPHA)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
