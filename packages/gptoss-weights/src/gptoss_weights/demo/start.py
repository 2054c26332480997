"""What the demo's training starts from: `python -m gptoss_weights.demo.start OUTPUT TEXT...`.

A checkpoint of the demo's geometry with random weights, which training replaces, and what training
hands on as it is: a byte-level BPE tokenizer learnt from the texts, with Harmony's special tokens
behind its vocabulary, and the ids at which generation stops. The whole recipe stands in the recipes
`demo` and `demo-sft` of gptoss-train.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from gptoss_weights.config import GptOssConfig
from gptoss_weights.manifest import write_manifest
from gptoss_weights.random_weights import random_checkpoint
from gptoss_weights.saving import save_checkpoint

__all__ = ["DEMO_CONFIG", "build_start"]

SEED = 2026
BASE_VOCABULARY_SIZE = 1206  # the 256 bytes and 950 merges
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
    hidden_size=128,
    intermediate_size=96,
    swiglu_limit=7.0,
    head_dim=24,
    num_attention_heads=6,
    num_key_value_heads=3,
    sliding_window=16,
    initial_context_length=4096,
    rope_theta=150000,
    rope_scaling_factor=32.0,
    rope_ntk_alpha=1,
    rope_ntk_beta=32,
)


def build_start(output: Path, texts: Sequence[Path]) -> None:
    """Writes the checkpoint that training starts from into a new folder.

    Args:
        output: The folder.
        texts: Files in UTF-8 that the tokenizer is learnt from.

    Raises:
        ValueError: they are too short for the vocabulary.
    """
    tokenizer = _train_tokenizer([text.read_text(encoding="utf-8") for text in texts])
    save_checkpoint(random_checkpoint(DEMO_CONFIG, seed=SEED), output, format="openai")
    ids = {token: BASE_VOCABULARY_SIZE + place for place, token in enumerate(SPECIAL_TOKENS)}
    generation = {
        "bos_token_id": ids["<|startoftext|>"],
        "eos_token_id": [ids["<|return|>"], ids["<|endoftext|>"]],
        "pad_token_id": ids["<|endoftext|>"],
    }
    (output / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    (output / "tokenizer.json").write_text(tokenizer)
    write_manifest(output)  # again, with the two files that came after


def _train_tokenizer(texts: Iterable[str]) -> str:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BASE_VOCABULARY_SIZE,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    found = tokenizer.get_vocab_size()
    if found < BASE_VOCABULARY_SIZE:
        raise ValueError(
            f"the texts yield a vocabulary of {found} entries; expected {BASE_VOCABULARY_SIZE}: give longer texts"
        )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    return tokenizer.to_str(pretty=True) + "\n"


if __name__ == "__main__":
    build_start(Path(sys.argv[1]), [Path(text) for text in sys.argv[2:]])
