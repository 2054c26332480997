"""The files of a repository at one commit, with the size and the hash that each must have."""

import dataclasses

from huggingface_hub import HfApi
from huggingface_hub.hf_api import ModelInfo, RepoSibling

from gptoss_weights.errors import NetworkError
from gptoss_weights.hub.connection import HubConnection
from gptoss_weights.hub.content_hash import ContentHash
from gptoss_weights.hub.selection import LayoutChoice, select_paths
from gptoss_weights.wording import shown

__all__ = ["Listing", "RemoteFile", "list_files"]


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file of the repository: its path there, its size in bytes, and the hash of its content."""

    path: str
    nbytes: int
    content: ContentHash

    @property
    def is_large(self) -> bool:
        """Whether it is kept outside of git, where storage servers and hf_xet serve it."""
        return self.content.algorithm == "sha256"


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a layout of a repository consists of.

    Attributes:
        connection: The repository at the commit that the revision stood for when it was asked.
        files: The files of the layout.
        left_out: How many files belong to other layouts only.
        left_out_bytes: Their bytes, as far as the Hub says.
    """

    connection: HubConnection
    files: tuple[RemoteFile, ...]
    left_out: int
    left_out_bytes: int


def list_files(connection: HubConnection, layout: LayoutChoice) -> Listing:
    """Asks the Hub what a layout consists of: one request, and one more for a file that it says too little of.

    Raises:
        CheckpointError: the repository has no weights in that layout.
        NetworkError: there is no such repository or revision, or no answer.
    """
    api = HfApi(endpoint=connection.endpoint, token=False, headers=dict(connection.headers))
    info = connection.ask(
        lambda: api.model_info(
            connection.repo, revision=connection.revision, files_metadata=True, timeout=connection.timeout_s
        )
    )
    siblings = connection.ask(lambda: _checked(info))
    paths = select_paths(siblings, layout, repo=connection.repo)
    pinned = dataclasses.replace(connection, revision=info.sha or connection.revision)
    wanted = set(paths)
    left_out = [sibling for path, sibling in siblings.items() if path not in wanted]
    return Listing(
        connection=pinned,
        files=tuple(_remote_file(pinned, siblings[path]) for path in paths),
        left_out=len(left_out),
        left_out_bytes=sum(sibling.size or 0 for sibling in left_out),
    )


def _checked(info: ModelInfo) -> dict[str, RepoSibling]:
    """Path → what the Hub says of the file; its client takes every value as it comes.

    Raises:
        ValueError: a value is not of its kind.
    """
    siblings: dict[str, RepoSibling] = {}
    if not isinstance(info.sha, str | None):
        raise ValueError(f"the commit is {shown(info.sha)}")
    for sibling in info.siblings or []:
        path, nbytes = sibling.rfilename, sibling.size
        hashes = (sibling.blob_id, None if sibling.lfs is None else sibling.lfs.sha256)
        if not isinstance(path, str):
            raise ValueError(f"the path of a file is {shown(path)}")
        if nbytes is not None and (type(nbytes) is not int or nbytes < 0):
            raise ValueError(f"the size of {shown(path)} is {shown(nbytes)}")
        if not all(isinstance(text, str | None) for text in hashes):
            raise ValueError(f"the hash of {shown(path)} is no text")
        siblings[path] = sibling
    return siblings


def _remote_file(connection: HubConnection, sibling: RepoSibling) -> RemoteFile:
    path, nbytes = sibling.rfilename, sibling.size
    content = ContentHash.parse(sibling.blob_id if sibling.lfs is None else sibling.lfs.sha256)
    if nbytes is None or content is None:
        metadata = connection.ask(lambda: connection.metadata(path))
        nbytes, content = metadata.size, ContentHash.parse(metadata.etag)
    if nbytes is None or content is None:
        raise NetworkError(
            "the server states no size or no hash, so the file cannot be verified", where=connection.url(path)
        )
    return RemoteFile(path, nbytes, content)
