"""Names of the strategies, for command lines that must not wait for JAX."""

__all__ = ["ATTENTION_NAMES", "AUTO", "MOE_NAMES"]

AUTO = "auto"
MOE_NAMES = (AUTO, "gathered", "tiled", "dense", "ragged", "megablox", "megablox-interpret")
ATTENTION_NAMES = (AUTO, "reference", "blockwise", "splash", "splash-interpret")
