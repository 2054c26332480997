"""A file of the Hub as bytes out of Xet storage, from any offset on, by `hf_xet`.

As the Hub's own client does, a file that the Hub keeps in Xet storage is fetched by hf_xet where that
is installed, unless `HF_HUB_DISABLE_XET` is set: it fetches chunks in parallel. We ask it for a
stream in order, so that what has arrived is the beginning of the file and can be continued, by
either source. hf_xet waits out failures on its own, deaf to Ctrl-C, so it runs in a thread.
"""

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator
from typing import Any

from huggingface_hub import constants, get_session, hf_raise_for_status
from huggingface_hub.utils import XetFileData

from gptoss_weights.hub.connection import HubConnection
from gptoss_weights.hub.failures import TransientError
from gptoss_weights.hub.http_source import ByteStream
from gptoss_weights.hub.listing import RemoteFile
from gptoss_weights.hub.threaded_pieces import threaded_pieces

__all__ = ["find_in_xet", "xet_stream"]

# Times the patience for plain HTTP: hf_xet hands out nothing until up to 64 MB (a xorb) have arrived.
XET_PATIENCE = 6


def find_in_xet(connection: HubConnection, file: RemoteFile) -> XetFileData | None:
    """Where Xet storage has the file, or None if it must come over plain HTTP.

    None if it is a small one; if hf_xet is missing or disabled; if the Hub does not offer it, or would
    have the token sent to another server; if asking fails in a way that asking for the file may survive.

    Raises:
        NetworkError: the Hub refuses.
    """
    if not file.is_large or constants.HF_HUB_DISABLE_XET or importlib.util.find_spec("hf_xet") is None:
        return None
    try:
        with connection.failures():
            found = connection.metadata(file.path).xet_file_data
    except TransientError:
        return None
    return found if found is not None and connection.owns(found.refresh_route) else None


@contextlib.contextmanager
def xet_stream(connection: HubConnection, file: RemoteFile, found: XetFileData, offset: int) -> Iterator[ByteStream]:
    """Opens a file at an offset.

    Raises:
        TransientError: Xet storage cannot be reached, or the stream breaks while the block reads it.
        NetworkError: the Hub refuses.
    """
    import hf_xet

    access = _access(connection, found)
    session = hf_xet.XetSession()

    def pieces() -> Iterable[bytes]:
        group = session.new_download_stream_group(
            **access,
            token_refresh_url=found.refresh_route,
            token_refresh_headers=dict(connection.headers),
            custom_headers={name: value for name, value in connection.headers.items() if name != "authorization"},
        )
        stream: Iterable[bytes] = group.download_stream(hf_xet.XetFileInfo(found.file_hash, file.nbytes), start=offset)
        return stream

    timeout_s = XET_PATIENCE * connection.timeout_s
    with threaded_pieces(pieces, source="Xet storage", timeout_s=timeout_s, abort=session.sigint_abort) as arriving:
        yield ByteStream(offset, arriving)


def _access(connection: HubConnection, found: XetFileData) -> dict[str, Any]:
    """Address and token of Xet storage; asked for here, for hf_xet would ask a dead server for minutes."""
    with connection.failures():
        response = get_session().get(
            found.refresh_route, headers=dict(connection.headers), timeout=connection.timeout_s
        )
        hf_raise_for_status(response)
    try:
        access = response.json()
        return {
            "endpoint": access["casUrl"],
            "token": access["accessToken"],
            "token_expiry_unix_secs": int(access["exp"]),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise TransientError(f"the Hub's word on Xet storage makes no sense ({error!r})") from error
