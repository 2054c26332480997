"""The token ids at which generation stops: what the checkpoint says, wherever it says it."""

import warnings

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.errors import CheckpointError, GptOssWarning
from gptoss_weights.json_files import load_json_object
from gptoss_weights.wording import shown

__all__ = ["eos_token_ids"]

GENERATION_CONFIG_FILE = "generation_config.json"
HARMONY_VOCABULARY_SIZE = 201088
# <|return|>, <|call|> and <|endoftext|> of o200k_harmony, as gpt-oss-120b's generation config lists them.
HARMONY_EOS_TOKEN_IDS = (200002, 200012, 199999)


def eos_token_ids(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Ids that end a sequence: from `generation_config.json`, else from the config, else Harmony's own.

    The layout `original/` says nothing; with the published vocabulary Harmony's ids hold there, with
    any other none do, and generation runs to its limit.

    Warns:
        GptOssWarning: an id lies outside the vocabulary; it is left out, since it never comes up.

    Raises:
        CheckpointError: the entry is neither an id nor a list of ids, or the generation config is no JSON.
    """
    path = checkpoint.side_files.get(GENERATION_CONFIG_FILE)
    if path is not None:
        document = load_json_object(path, what="the generation config")
        if document.get("eos_token_id") is not None:
            return _ids(document["eos_token_id"], checkpoint.config.vocab_size, where=str(path))
    if checkpoint.config.metadata.get("eos_token_id") is not None:
        return _ids(checkpoint.config.metadata["eos_token_id"], checkpoint.config.vocab_size, where="config.json")
    return HARMONY_EOS_TOKEN_IDS if checkpoint.config.vocab_size == HARMONY_VOCABULARY_SIZE else ()


def _ids(value: object, vocab_size: int, *, where: str) -> tuple[int, ...]:
    ids: list[int] = []
    for token in value if isinstance(value, list) else [value]:
        if not isinstance(token, int) or isinstance(token, bool):
            raise CheckpointError("eos_token_id is neither an id nor a list of ids", where=where, found=shown(value))
        if 0 <= token < vocab_size:
            ids.append(token)
        else:
            message = f"{where}: eos_token_id {token} is left out, for the vocabulary is 0 … {vocab_size - 1}"
            warnings.warn(message, GptOssWarning)
    return tuple(ids)
