"""One repository at one revision on the Hub: where to ask, as whom, and how patiently."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Self
from urllib.parse import urlsplit

from huggingface_hub import HfFileMetadata, constants, get_hf_file_metadata, hf_hub_url, is_offline_mode
from huggingface_hub.errors import LocalTokenNotFoundError
from huggingface_hub.utils import build_hf_headers, validate_repo_id

from gptoss_weights.errors import NetworkError
from gptoss_weights.hub.failures import LOG_IN, TransientError, hub_failures, offline_error

__all__ = ["HubConnection"]

LIBRARY_NAME = "gptoss-weights"
LONGEST_BACKOFF_S = 8.0
LONGEST_WAIT_S = 60.0  # however long the server asks for


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubConnection:
    """Where to ask, as whom, and how patiently.

    Attributes:
        repo: The repository, `owner/name`.
        revision: A branch, tag or commit; None for the main branch.
        endpoint: The Hub's address, without a slash at its end.
        headers: Sent to the Hub; they carry the token, which no other server may see.
        timeout_s: How long to wait for a connection, and for the next byte.
        retries: How often in a row to try again without having got any further.
        backoff_s: The pause before the first of these tries; it doubles with each.
    """

    repo: str
    revision: str | None
    endpoint: str
    headers: Mapping[str, str]
    timeout_s: float
    retries: int
    backoff_s: float

    @classmethod
    def open(
        cls,
        repo: str,
        *,
        revision: str | None,
        endpoint: str | None,
        token: str | bool | None,
        timeout_s: float | None,
        retries: int,
        backoff_s: float,
    ) -> Self:
        """Fills in what huggingface_hub's environment says; asks nothing of the repository yet.

        Raises:
            NetworkError: `HF_HUB_OFFLINE` is set, or a stored token is wanted and there is none.
            ValueError: the repository's name is none.
        """
        validate_repo_id(repo)
        if is_offline_mode():
            raise offline_error()
        try:
            headers = build_hf_headers(token=token, library_name=LIBRARY_NAME, library_version=version(LIBRARY_NAME))
        except LocalTokenNotFoundError:
            raise NetworkError("no token is stored", fix=f"{LOG_IN}.") from None
        return cls(
            repo=repo,
            revision=revision,
            endpoint=(endpoint or constants.ENDPOINT).rstrip("/"),
            headers=headers,
            timeout_s=constants.HF_HUB_DOWNLOAD_TIMEOUT if timeout_s is None else timeout_s,
            retries=retries,
            backoff_s=backoff_s,
        )

    def url(self, path: str) -> str:
        """The address of a file of the repository."""
        return hf_hub_url(self.repo, path, revision=self.revision, endpoint=self.endpoint)

    def metadata(self, path: str) -> HfFileMetadata:
        """What the Hub says of a file, without the file; raises the client's errors."""
        # token=False: the headers carry the token, and where the user wants none, none is looked for.
        return get_hf_file_metadata(
            self.url(path), token=False, headers=dict(self.headers), timeout=self.timeout_s, endpoint=self.endpoint
        )

    def owns(self, url: str) -> bool:
        """Whether a URL leads to the Hub itself, which may see the token."""
        there, here = urlsplit(url), urlsplit(self.endpoint)
        return (there.scheme, there.netloc) == (here.scheme, here.netloc)

    def failures(self) -> AbstractContextManager[None]:
        """Turns the client's errors into `TransientError` and `NetworkError` while the block runs."""
        return hub_failures(
            repo=self.repo,
            revision=self.revision,
            endpoint=self.endpoint,
            has_token="authorization" in self.headers,
            is_hub=self.owns,
        )

    def pause(self, tries: int, wait_s: float = 0) -> None:
        """Waits before the next try, the longer the more of them have failed."""
        backoff_s = min(self.backoff_s * 2 ** (tries - 1), LONGEST_BACKOFF_S)
        time.sleep(max(backoff_s, min(wait_s, LONGEST_WAIT_S)))

    def ask[T](self, request: Callable[[], T]) -> T:
        """The answer to a short request, which is repeated if that may help.

        Raises:
            NetworkError: there is no answer, or none that can be understood.
        """
        for tries in range(self.retries + 1):
            try:
                with self.failures():
                    return request()
            except TransientError as error:
                if error.is_unreachable:
                    raise self.unreachable(error) from error
                if tries == self.retries:
                    raise NetworkError("the Hub does not answer", where=self.endpoint, found=str(error)) from error
                self.pause(tries + 1, error.wait_s)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise NetworkError(
                    "what answers does not speak the Hub's protocol",
                    where=self.endpoint,
                    found=f"{type(error).__name__}: {error}",
                    fix="Check HF_ENDPOINT, and whether a proxy or login page stands in between.",
                ) from error
        raise AssertionError("every try returns or raises")

    def unreachable(self, error: TransientError) -> NetworkError:
        """What is said when there is no connection."""
        return NetworkError(
            "the Hub cannot be reached",
            where=self.endpoint,
            found=str(error),
            fix="Check the network connection; what has arrived so far is kept.",
        )
