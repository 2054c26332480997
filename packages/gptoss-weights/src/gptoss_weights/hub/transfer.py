"""Brings one file whole: continued where it stopped, tried again where that helps, held to its hash.

Tries are counted from the last byte that got further than any before, so a slow line may break as
often as it likes while it moves on, and a server that breaks off at the same place each time is given
up. A wrong hash of a file put together from several streams may be the fault of the joints, a power
failure for example: such a file is fetched once more from its start. One that came in a single stream
is what the server really sends.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from gptoss_weights.errors import NetworkError
from gptoss_weights.hub.connection import HubConnection
from gptoss_weights.hub.failures import TransientError
from gptoss_weights.hub.http_source import ByteStream, http_stream
from gptoss_weights.hub.listing import RemoteFile
from gptoss_weights.hub.partial_file import PartialFile
from gptoss_weights.hub.xet_source import find_in_xet, xet_stream

__all__ = ["complete_file"]


def complete_file(
    connection: HubConnection, file: RemoteFile, partial: PartialFile, *, on_arrival: Callable[[int], object]
) -> None:
    """Fetches what is missing of a file until it has its size and hash.

    Args:
        connection: The repository at the file's commit.
        file: What the Hub lists.
        partial: What has arrived of it.
        on_arrival: Called with the number of bytes that are there.

    Raises:
        NetworkError: the server refuses, or breaks off for good (what has arrived is kept), or sends
            another content than the Hub lists (it is dropped).
    """
    has_started_over = False
    while True:
        is_joined = _receive(connection, file, partial, on_arrival)
        if partial.hexdigest() == file.content.hexdigest:
            return
        if not is_joined or has_started_over:
            found = partial.hexdigest()
            partial.drop()
            raise NetworkError(
                "the content that the server sent is not the one that the Hub lists; it has been dropped",
                where=file.path,
                expected=file.content,
                found=found,
                fix="Run again; if that does not help, the server or a proxy hands out a damaged file.",
            )
        partial.restart()
        has_started_over = True


def _receive(
    connection: HubConnection, file: RemoteFile, partial: PartialFile, on_arrival: Callable[[int], object]
) -> bool:
    """Fetches until the size is right; says whether the last stream continued what was there before."""
    furthest, tries, is_joined = partial.arrived, 0, partial.arrived > 0
    found = find_in_xet(connection, file) if partial.arrived < file.nbytes else None
    while partial.arrived < file.nbytes:
        source: AbstractContextManager[ByteStream]
        if found is None:
            source = http_stream(connection, file, partial.arrived)
        else:
            source = xet_stream(connection, file, found, partial.arrived)
        try:
            with source as stream:
                if stream.start != partial.arrived:
                    partial.restart()
                is_joined = partial.arrived > 0
                for piece in stream.pieces:
                    _refuse_excess(file, partial, len(piece))
                    partial.append(piece)
                    on_arrival(partial.arrived)
            if partial.arrived < file.nbytes:
                raise TransientError("the stream ends early")
        except TransientError as error:
            if found is not None:
                found = None  # what hf_xet cannot do, plain HTTP may
                continue
            if error.starts_over:
                partial.restart()
            if partial.arrived > furthest:
                furthest, tries = partial.arrived, 0
            if tries == connection.retries:
                raise _broken_off(connection, file, partial, error) from error
            tries += 1
            connection.pause(tries, error.wait_s)
    return is_joined


def _refuse_excess(file: RemoteFile, partial: PartialFile, arriving: int) -> None:
    if partial.arrived + arriving > file.nbytes:
        partial.drop()
        raise NetworkError(
            "the server sends more than the Hub lists; it has been dropped",
            where=file.path,
            expected=f"{file.nbytes} bytes",
            fix="Run again; if that does not help, the server or a proxy hands out another file.",
        )


def _broken_off(
    connection: HubConnection, file: RemoteFile, partial: PartialFile, error: TransientError
) -> NetworkError:
    if error.is_unreachable:
        return connection.unreachable(error)
    return NetworkError(
        f"the transfer got no further in {connection.retries + 1} tries",
        where=file.path,
        expected=f"{file.nbytes} bytes",
        found=f"{partial.arrived} bytes; {error}",
        fix="What has arrived is kept: run again to go on from there.",
    )
