"""The recipe of the demo checkpoint: `python -m gptoss_weights.demo.build OUTPUT` makes the same bytes again.

Random weights under a fixed seed, and a byte-level BPE tokenizer trained on the Apache license and
the demo prompt, with Harmony's special tokens behind its vocabulary. The goldens beside the checkpoint
come from the official code: `gptoss-parity record` with `--source torch`.
"""

import importlib.metadata
import json
import sys
from pathlib import Path

from gptoss_weights.config import GptOssConfig
from gptoss_weights.demo import DEMO_PROMPT
from gptoss_weights.manifest import write_manifest
from gptoss_weights.random_weights import random_checkpoint
from gptoss_weights.saving import save_checkpoint

__all__ = ["DEMO_CONFIG", "build_demo"]

SEED = 2026
BASE_VOCABULARY_SIZE = 503  # the 256 bytes and 247 merges
# In the order of their ids in o200k_harmony.
SPECIAL_TOKENS = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<|return|>",
    "<|constrain|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
    "<|endofprompt|>",
)
DEMO_CONFIG = GptOssConfig(
    num_hidden_layers=4,
    num_experts=7,
    experts_per_token=2,
    vocab_size=BASE_VOCABULARY_SIZE + len(SPECIAL_TOKENS),
    hidden_size=96,
    intermediate_size=64,
    swiglu_limit=7.0,
    head_dim=20,
    num_attention_heads=6,
    num_key_value_heads=3,
    sliding_window=16,
    initial_context_length=4096,
    rope_theta=150000,
    rope_scaling_factor=32.0,
    rope_ntk_alpha=1,
    rope_ntk_beta=32,
)


def build_demo(output: Path) -> None:
    """Writes the demo checkpoint into a new folder."""
    save_checkpoint(random_checkpoint(DEMO_CONFIG, seed=SEED), output, format="openai")
    ids = {token: BASE_VOCABULARY_SIZE + place for place, token in enumerate(SPECIAL_TOKENS)}
    generation = {
        "bos_token_id": ids["<|startoftext|>"],
        "eos_token_id": [ids["<|return|>"], ids["<|endoftext|>"]],
        "pad_token_id": ids["<|endoftext|>"],
    }
    (output / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    (output / "tokenizer.json").write_text(_train_tokenizer())
    write_manifest(output)  # again, with the two files that came after


def _train_tokenizer() -> str:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BASE_VOCABULARY_SIZE,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_license(), DEMO_PROMPT], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    return tokenizer.to_str(pretty=True) + "\n"


def _license() -> str:
    """The license text that every distribution of this package carries."""
    for file in importlib.metadata.files("gptoss-weights") or ():
        if file.name == "LICENSE":
            return file.read_text()
    return (Path(__file__).parents[3] / "LICENSE").read_text()


if __name__ == "__main__":
    build_demo(Path(sys.argv[1]))
