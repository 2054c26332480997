"""TensorStore: imported when first needed, one pool of threads for all, its failures told in our words."""

import contextlib
import functools
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from gptoss_weights.errors import CheckpointError, MissingDependencyError, NetworkError, NotEnoughSpaceError
from gptoss_weights.returned_memory import return_large_blocks

if TYPE_CHECKING:
    import tensorstore

__all__ = ["explained", "load_tensorstore", "shared_context", "unsynced_context"]

# TensorStore raises ValueError or RuntimeError whose text begins with the status code of abseil.
_NETWORK_STATUS = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNAUTHENTICATED", "PERMISSION_DENIED")
_GIVEN_UP = "retry attempts failed"
_NO_SPACE = ("No space left on device", "Disk quota exceeded", "File too large")
# By default it tries 32 times, which without a network is minutes of silence.
_RETRIES = {"max_retries": 5, "initial_delay": "500ms", "max_delay": "2s"}
_SERVICES = ("gcs", "http", "s3")
_DETAILS = " [tensorstore_spec="  # what follows repeats the whole specification


def load_tensorstore() -> ModuleType:
    """The library.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import tensorstore
    except ImportError:
        raise MissingDependencyError(
            "Orbax checkpoints need the `tensorstore` library",
            fix="Install it with: pip install 'gptoss-weights[orbax]'.",
        ) from None
    return_large_blocks()
    return tensorstore


@functools.cache
def shared_context() -> "tensorstore.Context":
    """One context for all; it also makes `memory://` the same place for reader and writer. Nothing is cached."""
    retries = {f"{service}_request_retries": _RETRIES for service in _SERVICES}
    spec = {"cache_pool": {"total_bytes_limit": 0}, **retries}
    context: tensorstore.Context = load_tensorstore().Context(spec)
    return context


@functools.cache
def unsynced_context() -> "tensorstore.Context":
    """The same, for files that are synced to disk by other means, or not at all."""
    library = load_tensorstore()
    context: tensorstore.Context = library.Context(
        library.Context.Spec({"file_io_sync": False}), parent=shared_context()
    )
    return context


@contextlib.contextmanager
def explained(what: str, *, where: object, fix: str | None = None) -> Iterator[None]:
    """Turns TensorStore's failures inside the block into ours; `what` says what could not be done.

    Raises:
        NotEnoughSpaceError: the disk is full.
        NetworkError: the server behind a URL does not answer, or does not let us in.
        CheckpointError: anything else.
    """
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        text = str(error).partition(_DETAILS)[0]
        if any(words in text for words in _NO_SPACE):
            raise NotEnoughSpaceError("the disk is full", where=where) from error
        if "://" in str(where) and (text.startswith(_NETWORK_STATUS) or _GIVEN_UP in text):
            raise NetworkError(f"{what} ({text})", where=where) from error
        raise CheckpointError(f"{what} ({text})", where=where, fix=fix) from error
