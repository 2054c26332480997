"""What goes wrong between us and the Hub: worth another try, or one sentence for the user.

Every sentence is a `NetworkError`, exit code 7, also where the Hub refuses (401, 403, 404) or sends
other bytes than it promised: the files here are not at fault, and the same command may work later.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from gptoss_weights.errors import NetworkError

__all__ = ["TransientError", "hub_failures", "offline_error"]

# What every error of the client's HTTP library derives from, whichever library that is.
HTTP_ERROR: type[Exception] = HfHubHTTPError.__mro__[1]
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN"


class TransientError(Exception):
    """A request failed in a way that another try may mend.

    Attributes:
        wait_s: How long the server asks to wait, in seconds; 0 if it does not.
        is_unreachable: There was not even a connection.
        starts_over: What has arrived of the file cannot be continued.
    """

    def __init__(
        self, reason: str, *, wait_s: float = 0, is_unreachable: bool = False, starts_over: bool = False
    ) -> None:
        self.wait_s, self.is_unreachable, self.starts_over = wait_s, is_unreachable, starts_over
        super().__init__(reason)


def offline_error() -> NetworkError:
    """What is said when the user has switched the Hub off."""
    return NetworkError(
        "the Hugging Face Hub is switched off by HF_HUB_OFFLINE", fix="Unset HF_HUB_OFFLINE to download."
    )


@contextlib.contextmanager
def hub_failures(
    *, repo: str, revision: str | None, endpoint: str, has_token: bool, is_hub: Callable[[str], bool]
) -> Iterator[None]:
    """Turns the client's errors into ours while the block runs; `is_hub` tells the Hub from storage servers.

    Raises:
        TransientError: another try may mend it.
        NetworkError: none will.
    """
    try:
        yield
    except OfflineModeIsEnabled:
        raise offline_error() from None
    except HfHubHTTPError as error:
        response = error.response
        # A storage server refuses links that have run out (403); the Hub hands out a fresh one.
        if response.status_code in RETRIED_STATUSES or not is_hub(str(response.request.url)):
            reason = f"{response.request.url.host} answers {response.status_code}"
            raise TransientError(reason, wait_s=_retry_after_s(response.headers)) from error
        raise _refusal(error, repo=repo, revision=revision, endpoint=endpoint, has_token=has_token) from error
    except HTTP_ERROR as error:
        name = type(error).__name__
        reason = "nothing arrives any more" if name == "ReadTimeout" else f"{name}: {error}".rstrip(": ")
        raise TransientError(reason, is_unreachable=name in {"ConnectError", "ConnectTimeout"}) from error


def _retry_after_s(headers: Mapping[str, str]) -> float:
    value = headers.get("Retry-After", "").strip()
    return float(value) if value.isdecimal() else 0.0


def _refusal(error: HfHubHTTPError, *, repo: str, revision: str | None, endpoint: str, has_token: bool) -> NetworkError:
    status = error.response.status_code
    found = f"status {status}"
    match error:
        case GatedRepoError():
            page = f"{endpoint}/{repo}"
            what = "the repository is gated"
            with_token = f"Ask for access on {page}; the account of the token that was sent has none yet."
            without = f"Accept its terms on {page}. {LOG_IN}, and run again."
        case RevisionNotFoundError():
            return NetworkError("the repository has no such revision", where=repo, found=revision)
        case RemoteEntryNotFoundError():
            return NetworkError("the Hub lists a file but does not have it", where=str(error.response.url))
        case DisabledRepoError():
            return NetworkError("the repository has been disabled", where=repo)
        case _ if isinstance(error, RepositoryNotFoundError) or status == 404:
            what = "there is no such repository, or it is private"
            with_token = "Check the name, and that the token that was sent may read it."
            without = f"Check the name. If it is private: {LOG_IN}."
        case _ if status == 401:
            what = "the Hub does not accept who asks"
            with_token = "The token that was sent is not valid: log in again with `hf auth login`, or renew HF_TOKEN."
            without = f"{LOG_IN}."
        case _ if status == 403:
            what = "the Hub does not let us read it"
            with_token = "Give the token the right to read this repository."
            without = f"{LOG_IN}."
        case _:
            return NetworkError("the server refuses the request", where=endpoint, found=found)
    return NetworkError(what, where=repo, found=found, fix=with_token if has_token else without)
