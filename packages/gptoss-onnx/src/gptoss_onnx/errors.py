"""What can be wrong with a request to an exported model, or with the options of an export."""

from gptoss_weights import CheckpointError

__all__ = ["OptionError", "RequestError"]


class OptionError(ValueError):
    """Options that do not go together or not with the checkpoint; commands end with the code of usage."""


class RequestError(CheckpointError, ValueError):
    """Token ids, mask, cache or length do not fit the model; commands end with the code of bad input."""
