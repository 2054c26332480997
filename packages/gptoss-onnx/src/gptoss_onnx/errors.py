"""What can be wrong with a request to an exported model."""

from gptoss_weights import CheckpointError

__all__ = ["RequestError"]


class RequestError(CheckpointError, ValueError):
    """Token ids, mask, cache or length do not fit the model; commands end with the code of bad input."""
