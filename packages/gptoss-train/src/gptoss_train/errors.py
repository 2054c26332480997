"""What stops a run: a config that cannot be, or numbers that are none."""

from gptoss_weights import CheckpointError

__all__ = ["ConfigError", "TrainingError"]


class ConfigError(CheckpointError):
    """A config file, or a `key=value`, that does not say what a run needs."""


class TrainingError(CheckpointError):
    """A run that must not go on: a loss that is no number, or parameters that do not learn as they should."""
