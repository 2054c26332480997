"""A file of the Hub as bytes over plain HTTP, from any offset on, through whatever redirects.

Large files are answered with a redirect to a storage server. The client follows it without the
token, which belongs to the Hub alone.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping

from huggingface_hub import constants, get_session, hf_raise_for_status

from gptoss_weights.errors import NetworkError
from gptoss_weights.hub.connection import HubConnection
from gptoss_weights.hub.content_hash import ContentHash
from gptoss_weights.hub.failures import TransientError
from gptoss_weights.hub.listing import RemoteFile

__all__ = ["ByteStream", "http_stream"]

PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416
_CONTENT_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<total>\d+|\*)")


@dataclasses.dataclass(frozen=True)
class ByteStream:
    """Pieces of a file in order, the first of which begins at the byte `start`."""

    start: int
    pieces: Iterator[bytes]


@contextlib.contextmanager
def http_stream(connection: HubConnection, file: RemoteFile, offset: int) -> Iterator[ByteStream]:
    """Opens a file at an offset; the stream starts at 0 instead if the server knows no ranges.

    Raises:
        TransientError: the request failed, or the stream breaks while the block reads it.
        NetworkError: the server refuses, or offers another file than it has listed.
    """
    headers = {**connection.headers, "Accept-Encoding": "identity"}  # a range of compressed bytes is of no use
    if offset:
        headers["Range"] = f"bytes={offset}-"
    request = get_session().stream(
        "GET", connection.url(file.path), headers=headers, timeout=connection.timeout_s, follow_redirects=True
    )
    with connection.failures(), request as response:
        if response.status_code == RANGE_NOT_SATISFIABLE:
            raise TransientError("the server has no such range of the file", starts_over=True)
        hf_raise_for_status(response)
        _refuse_change(file, (response.history[0] if response.history else response).headers)
        if response.status_code == PARTIAL_CONTENT:
            _check_range(file, offset, response.headers)
            yield ByteStream(offset, response.iter_bytes())
        else:
            _check_length(file, response.headers)
            yield ByteStream(0, response.iter_bytes())


def _refuse_change(file: RemoteFile, headers: Mapping[str, str]) -> None:
    now = ContentHash.parse(headers.get(constants.HUGGINGFACE_HEADER_X_LINKED_ETAG) or headers.get("ETag"))
    if now is not None and now.algorithm == file.content.algorithm and now != file.content:
        raise NetworkError(
            "the file is not the one that the Hub has just listed",
            where=file.path,
            expected=file.content,
            found=now,
            fix="Run again; if that does not help, the server or a proxy hands out an old file.",
        )


def _check_range(file: RemoteFile, offset: int, headers: Mapping[str, str]) -> None:
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if match is None or int(match["start"]) != offset or match["total"] not in {"*", str(file.nbytes)}:
        raise TransientError("the server sends another range than it was asked for", starts_over=True)


def _check_length(file: RemoteFile, headers: Mapping[str, str]) -> None:
    length = headers.get("Content-Length")
    if length is not None and headers.get("Content-Encoding", "identity") == "identity" and int(length) != file.nbytes:
        raise NetworkError(
            "the server offers a file of another size than it has listed",
            where=file.path,
            expected=f"{file.nbytes} bytes",
            found=f"{length} bytes ({headers.get('Content-Type', 'of no stated type')})",
            fix="Check whether a proxy or login page stands in between, then run again.",
        )
