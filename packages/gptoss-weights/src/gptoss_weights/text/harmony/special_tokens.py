"""The special tokens that Harmony is written with; only the renderer makes them, never the text of a message."""

import enum

__all__ = ["FormattingToken"]


class FormattingToken(enum.StrEnum):
    """One special token of the format (openai/harmony `encoding.rs`; docs/format.md says what each is for)."""

    START = "<|start|>"
    """Begins a message; its header follows: who speaks, to whom, in which channel."""
    CHANNEL = "<|channel|>"
    """In a header, before the channel's name."""
    CONSTRAIN = "<|constrain|>"
    """In a header, before the type of the content, such as `json`."""
    MESSAGE = "<|message|>"
    """Ends the header; the content follows."""
    END = "<|end|>"
    """Ends a message after which the same author may go on."""
    RETURN = "<|return|>"
    """Ends the last message of an answer, when the model says it; in a prompt `END` stands instead."""
    CALL = "<|call|>"
    """Ends a message to a tool, which is to answer now."""
