"""Which files of a repository belong to a layout.

A published repository holds the weights three times: Hugging Face's at the top, OpenAI's in
`original/`, and Metal's in `metal/`. Config, tokenizer, template and licence stand once, at the top,
and come with either layout; `open_checkpoint` finds them above `original/` too.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Literal, get_args

from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.folder import INDEX_NAME, SIDE_FILES
from gptoss_weights.manifest.artefact import MANIFEST_NAME

__all__ = ["ORIGINAL_FOLDER", "LayoutChoice", "select_paths"]

LayoutChoice = Literal["original", "hf", "all"]

ORIGINAL_FOLDER = "original"
WEIGHTS_SUFFIX = ".safetensors"
_TERMS = re.compile(r"(licen[cs]e|notice|copying|usage_policy)(\.(txt|md))?", re.IGNORECASE)


def select_paths(paths: Iterable[str], layout: LayoutChoice, *, repo: str) -> list[str]:
    """The paths of a repository that a layout needs, in alphabetical order.

    Raises:
        CheckpointError: the repository has no weights in that layout, or a path leads out of its folder.
        ValueError: there is no such layout.
    """
    if layout not in get_args(LayoutChoice):
        raise ValueError(f"there is no layout {layout!r}; choose one of {', '.join(get_args(LayoutChoice))}")
    everything = sorted(paths)
    for path in everything:
        _refuse_escape(path, repo)
    if layout == "all":
        return everything
    weights = [path for path in everything if _is_of_layout(path, layout)]
    if not any(path.endswith(WEIGHTS_SUFFIX) for path in weights):
        raise _no_weights(everything, layout, repo)
    return sorted({*weights, *(path for path in everything if _travels_along(path))})


def _is_of_layout(path: str, layout: LayoutChoice) -> bool:
    folder, _, name = path.rpartition("/")
    if layout == "original":
        return folder == ORIGINAL_FOLDER and (name.endswith((WEIGHTS_SUFFIX, ".json")) or _is_side_file(name))
    return folder == "" and (name.endswith(WEIGHTS_SUFFIX) or name in (INDEX_NAME, MANIFEST_NAME))


def _travels_along(path: str) -> bool:
    return path == "config.json" or ("/" not in path and _is_side_file(path))


def _is_side_file(name: str) -> bool:
    return name in SIDE_FILES or _TERMS.fullmatch(name) is not None


def _no_weights(paths: list[str], layout: LayoutChoice, repo: str) -> CheckpointError:
    other: LayoutChoice = "hf" if layout == "original" else "original"
    has_other = any(_is_of_layout(path, other) and path.endswith(WEIGHTS_SUFFIX) for path in paths)
    return CheckpointError(
        f"the repository has no weights in layout {layout}",
        where=repo,
        expected="original/*.safetensors" if layout == "original" else "*.safetensors at its top",
        found=", ".join(path for path in paths if path.endswith((WEIGHTS_SUFFIX, ".bin", ".gguf"))) or "no weights",
        fix=f"Ask for layout {other}." if has_other else None,
    )


def _refuse_escape(path: str, repo: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path != "/".join(parts) or ".." in parts or path.startswith("/") or re.search(r"[\\\0:]", path):
        raise CheckpointError("the repository lists a path that could lead out of its folder", where=repo, found=path)
