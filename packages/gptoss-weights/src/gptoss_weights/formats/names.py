"""The names of the formats, without what it takes to read or write them."""

from typing import Literal, get_args

__all__ = ["FORMAT_NAMES", "FormatName"]

type FormatName = Literal["openai", "hf", "hf-bf16", "flax", "orbax-scanned", "orbax-unscanned"]

FORMAT_NAMES: tuple[FormatName, ...] = get_args(FormatName.__value__)
