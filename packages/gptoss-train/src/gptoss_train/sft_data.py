"""What `sft` makes of a config's data: conversations, and no texts."""

import dataclasses

from gptoss_train.config import TrainConfig
from gptoss_train.errors import ConfigError

__all__ = ["for_conversations"]


def for_conversations(config: TrainConfig) -> TrainConfig:
    """The config with every record a conversation.

    Raises:
        ConfigError: it says that they are texts, or treats them as only texts can be treated.
    """
    if config.data.source in ("synthetic", "text") or config.data.format == "text":
        raise ConfigError(
            "sft trains on conversations",
            where="data",
            expected="source jsonl or huggingface, format auto or conversation",
            found=f"source {config.data.source}, format {config.data.format}",
            fix="Use finetune for texts.",
        )
    try:
        return dataclasses.replace(config, data=dataclasses.replace(config.data, format="conversation"))
    except ValueError as error:
        raise ConfigError(str(error)) from None
