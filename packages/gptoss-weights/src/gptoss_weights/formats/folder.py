"""A checkpoint folder: which weight files belong to it, and what they hold by raw name.

An index `model.safetensors.index.json` defines what belongs; without one, all `*.safetensors` of
the folder do. Nothing outside the folder is read: an index may not point out of it, nor may a
symbolic link, except into the `blobs` of the Hugging Face cache that the folder is a snapshot of.
"""

import collections
import dataclasses
import errno
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from gptoss_weights.checkpoint import StoredArray
from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.safetensors_files import read_header
from gptoss_weights.json_files import load_json_object
from gptoss_weights.wording import shown, shown_name

__all__ = [
    "INDEX_NAME",
    "SIDE_FILES",
    "FolderContents",
    "inside",
    "read_folder",
    "refuse_links_out",
    "side_files",
]

INDEX_NAME = "model.safetensors.index.json"
_SHARD = re.compile(r"(?P<stem>.*-)(?P<number>\d+)-of-(?P<last>\d+)\.safetensors")

MAX_FILES = 10_000  # that an index may name; gpt-oss-120b has 15
_PICKLED = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
_OUTSIDE = "which is outside the folder"
_CORRECT_THE_INDEX = "Correct the index, or download it again."

# What travels with the weights besides the config: tokenizer, template, generation config, licence.
SIDE_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "LICENSE",
    "NOTICE",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "USAGE_POLICY",
)


@dataclasses.dataclass(frozen=True)
class FolderContents:
    """What a folder holds.

    Attributes:
        tensors: Raw name → where it stands.
        problems: Every problem met on the way.
        fix: The next step, where the problem that was met first has one of its own.
        perhaps_missing: Shards number 0 that are missing if the series begins there, as published
            ones of Hugging Face do; where none of the tensors is missing, it does not.
    """

    tensors: Mapping[str, StoredArray]
    problems: tuple[str, ...]
    fix: str | None = None
    perhaps_missing: tuple[Path, ...] = ()


def read_folder(folder: Path) -> FolderContents:
    """Reads the headers of all weight files that belong to a folder.

    Raises:
        CheckpointError: there are no weight files, or the index is unreadable.
    """
    problems: list[str] = []
    index = _read_index(folder, problems)
    names = sorted(set(index.values())) if index is not None else _safetensors_names(folder)
    if not names:
        raise _no_weights(folder)
    if index is None:
        problems += _missing_shards(folder, names)
    tensors: dict[str, StoredArray] = {}
    fixes: list[str | None] = [None for _ in problems]
    for name in names:
        try:
            header = read_header(inside(folder, name))
        except CheckpointError as error:
            problems.append(error.problem)
            fixes.append(error.fix)
            continue
        for raw_name, stored in header.items():
            if raw_name in tensors:
                twice = f"{shown_name(raw_name)} stands in {tensors[raw_name].path.name} as well"
                problems.append(f"{folder / name}: {twice}")
            tensors.setdefault(raw_name, stored)
    if index is not None and not problems:
        problems += _index_problems(folder, index, tensors)
    if any(_OUTSIDE in problem for problem in problems):
        fixes = [_CORRECT_THE_INDEX]
    zeroth = () if index is not None else tuple(_zeroth_shards(folder, names))
    return FolderContents(tensors, tuple(problems), next(iter(fixes), None), zeroth)


def side_files(folder: Path) -> dict[str, Path]:
    """Files that travel with the weights: those of the folder, and for `original/` those above it.

    Published repositories keep tokenizer and licence at the top, beside `original/`.
    """
    folders = [folder, folder.parent] if _is_original_of_repository(folder) else [folder]
    found: dict[str, Path] = {}
    for place in folders:
        for name in SIDE_FILES:
            if name not in found and (place / name).is_file():
                found[name] = inside(place, name)
    return found


def _read_index(folder: Path, problems: list[str]) -> dict[str, str] | None:
    path = folder / INDEX_NAME
    if not path.exists():
        return None
    weight_map = load_json_object(inside(folder, INDEX_NAME), what="the index").get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError("the index has no weight_map of tensor name → file name", where=path)
    if not weight_map:
        raise CheckpointError("the index lists no tensors, its weight_map is empty", where=path, fix=_CORRECT_THE_INDEX)
    counts = collections.Counter(weight_map.values())
    if len(counts) > MAX_FILES:
        raise CheckpointError(
            "the index names more files than any checkpoint has",
            where=path,
            expected=f"at most {MAX_FILES}",
            found=len(counts),
            fix=_CORRECT_THE_INDEX,
        )
    first = {name: tensor for tensor, name in reversed(weight_map.items())}
    refused: set[str] = set()
    for name, count in counts.items():
        if _leaves_folder(name):
            what = f"{shown_name(first[name])} is said to be in {shown(name)}, {_OUTSIDE}"
            problems.append(f"{path}: {what}")
            refused.add(name)
        elif not _exists(folder / name):
            where = f"{folder}/{shown_name(name)}"
            problems.append(f"{where}: the file is missing; the index says that it holds {count} tensors")
            refused.add(name)
    index = {tensor: name for tensor, name in weight_map.items() if name not in refused}
    if not index and problems:
        is_outside = any(_OUTSIDE in problem for problem in problems)
        fix = _CORRECT_THE_INDEX if is_outside else "Download the missing files again."
        raise CheckpointError("; ".join(problems), fix=fix)
    return index


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is too long for any file
        return False


def _leaves_folder(name: str) -> bool:
    return (
        not name
        or "\0" in name
        or PurePosixPath(name).is_absolute()
        or PureWindowsPath(name).is_absolute()
        or ".." in PurePosixPath(name).parts
        or ".." in PureWindowsPath(name).parts
    )


def inside(folder: Path, name: str) -> Path:
    """The file's path, once it is known not to lead out of the folder.

    Raises:
        CheckpointError: a symbolic link leads elsewhere, nowhere, or in a circle.
    """
    path = folder / name
    try:
        target = Path(os.path.realpath(path, strict=True))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise CheckpointError(
                "the symbolic link leads in a circle", where=path, fix="Put the file itself there."
            ) from None
        target = path.resolve()  # of nothing, as far as there is something
    if not any(target.is_relative_to(root) for root in _allowed_roots(folder)):
        raise CheckpointError(
            "the symbolic link leads out of the folder", where=path, found=target, fix="Put the file itself there."
        )
    if path.is_symlink() and not target.exists():
        raise CheckpointError("the symbolic link leads nowhere", where=path, found=target, fix="Download it again.")
    return path


def refuse_links_out(folder: Path) -> None:
    """Holds every symbolic link in a folder, at any depth, to leading somewhere inside.

    Raises:
        CheckpointError: one leads elsewhere, nowhere, or in a circle.
    """
    for root, folders, files in folder.walk():
        for path in (root / name for name in (*folders, *files)):
            if path.is_symlink():
                inside(folder, str(path.relative_to(folder)))


def _allowed_roots(folder: Path) -> Iterator[Path]:
    resolved = folder.resolve()
    yield resolved
    if _is_original_of_repository(folder):
        yield resolved.parent
    for parent in (*folder.absolute().parents, *resolved.parents):
        if parent.name == "snapshots":  # <cache>/models--org--name/snapshots/<revision>/…
            yield (parent.parent / "blobs").resolve()


def _is_original_of_repository(folder: Path) -> bool:
    """Whether a folder is the `original/` of a repository that has Hugging Face's layout at the top."""
    return folder.name == "original" and (folder.parent / "config.json").is_file()


def _safetensors_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.safetensors"))


def _missing_shards(folder: Path, names: list[str]) -> list[str]:
    """Gaps in `…-i-of-n.safetensors`, counted 0 … n (Hugging Face here) or 1 … n (everywhere else)."""
    series: dict[tuple[str, str], list[str]] = {}
    for name in names:
        if match := _SHARD.fullmatch(name):
            series.setdefault((match["stem"], match["last"]), []).append(match["number"])
    problems = []
    for (stem, last), numbers in series.items():
        present = {int(number) for number in numbers}
        first = 0 if 0 in present else 1
        for number in range(first, int(last) + 1):
            if number not in present:
                missing = f"{stem}{number:0{len(numbers[0])}d}-of-{last}.safetensors"
                problems.append(f"{folder / missing}: the shard is missing")
    return problems


def _zeroth_shards(folder: Path, names: list[str]) -> Iterator[Path]:
    """Shards number 0 of complete series 1 … n, other than OpenAI's, which begin at 1."""
    firsts = [match for name in names if (match := _SHARD.fullmatch(name)) and int(match["number"]) == 1]
    for match in firsts:
        zeroth = f"{match['stem']}{0:0{len(match['number'])}d}-of-{match['last']}.safetensors"
        if zeroth not in names and not match["stem"].endswith("--"):
            yield folder / zeroth


def _index_problems(folder: Path, index: Mapping[str, str], tensors: Mapping[str, StoredArray]) -> list[str]:
    problems = []
    for tensor, name in index.items():
        if tensor not in tensors:
            problems.append(f"{folder / name}: {shown_name(tensor)} is missing, though the index places it there")
        elif tensors[tensor].path != folder / name:
            problems.append(f"{tensors[tensor].path}: the index places {shown_name(tensor)} in {name} instead")
    problems += [
        f"{stored.path}: the index does not list {shown_name(tensor)}"
        for tensor, stored in tensors.items()
        if tensor not in index
    ]
    return problems


def _no_weights(folder: Path) -> CheckpointError:
    if (folder / "original").is_dir() and _safetensors_names(folder / "original"):
        return CheckpointError(
            "the folder itself holds no weights, but its original/ does",
            where=folder,
            fix=f"Open {folder / 'original'} instead.",
        )
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
    if pickles:
        return CheckpointError(
            "the folder holds pickled weights, which are never opened",
            where=folder,
            expected="*.safetensors files",
            found=", ".join(pickles[:3]),
            fix="Ask for safetensors, or save them as such in a place that trusts them.",
        )
    return CheckpointError("the folder holds no *.safetensors files", where=folder)
