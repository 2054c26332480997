"""The token ids at which generation stops: what the checkpoint says, wherever it says it."""

import json

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.errors import CheckpointError

__all__ = ["eos_token_ids"]

GENERATION_CONFIG_FILE = "generation_config.json"
HARMONY_VOCABULARY_SIZE = 201088
# <|return|>, <|call|> and <|endoftext|> of o200k_harmony, as gpt-oss-120b's generation config lists them.
HARMONY_EOS_TOKEN_IDS = (200002, 200012, 199999)


def eos_token_ids(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Ids that end a sequence: from `generation_config.json`, else from the config, else Harmony's own.

    The layout `original/` says nothing; with the published vocabulary Harmony's ids hold there, with
    any other none do, and generation runs to its limit.

    Raises:
        CheckpointError: the entry is neither an id nor a list of ids of this vocabulary.
    """
    path = checkpoint.side_files.get(GENERATION_CONFIG_FILE)
    if path is not None:
        try:
            document = json.loads(path.read_bytes())
        except ValueError as error:
            raise CheckpointError(f"the generation config is not valid JSON ({error})", where=path) from None
        if isinstance(document, dict) and document.get("eos_token_id") is not None:
            return _ids(document["eos_token_id"], checkpoint.config.vocab_size, where=str(path))
    if checkpoint.config.metadata.get("eos_token_id") is not None:
        return _ids(checkpoint.config.metadata["eos_token_id"], checkpoint.config.vocab_size, where="config")
    return HARMONY_EOS_TOKEN_IDS if checkpoint.config.vocab_size == HARMONY_VOCABULARY_SIZE else ()


def _ids(value: object, vocab_size: int, *, where: str) -> tuple[int, ...]:
    ids = value if isinstance(value, list) else [value]
    if not all(type(token) is int and 0 <= token < vocab_size for token in ids):
        raise CheckpointError(
            "eos_token_id is no id of this vocabulary", where=where, expected=f"0 … {vocab_size - 1}", found=value
        )
    return tuple(ids)
