"""A dataset of the Hugging Face Hub, or of a folder, through the library `datasets` (extra `datasets`).

A table has one type a column, so an object in it has the members of all rows' objects, and None where its row has
not said one. Such members are left out again: nobody has written them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gptoss_weights import CheckpointError, MissingDependencyError, NetworkError
from gptoss_weights.installation import install_command

from gptoss_train.data.config import HuggingFaceConfig
from gptoss_train.data.records import Fields

__all__ = ["HuggingFaceSource"]

SAVED = ("state.json", "dataset_dict.json")  # what `save_to_disk` leaves in a folder
UNNAMED = HuggingFaceConfig.split  # what a saved dataset is called whose split has no name
ALL = "all"  # every split, as `load_dataset` understands it
LOG_IN = "Correct data.huggingface.name; for a gated dataset log in with `hf auth login`, or set HF_TOKEN."


class _Table(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


class HuggingFaceSource:
    """The rows of one split.

    Args:
        config: Which dataset, and which part of it.

    Raises:
        MissingDependencyError: `datasets` is not installed.
        NetworkError: the Hub cannot be reached, or does not give this dataset.
        CheckpointError: there is no such split or subset, or no row; or an option that a folder has no use for.
    """

    def __init__(self, config: HuggingFaceConfig) -> None:
        self._name = f"{config.name}:{config.split}"
        self._table = _load(config)
        if len(self._table) == 0:
            raise CheckpointError("the dataset has no row", where=self._name)

    def __len__(self) -> int:
        return len(self._table)

    def digest(self) -> str:
        """The fingerprint that the library gives a table; it has no public name."""
        return str(getattr(self._table, "_fingerprint", ""))

    def __getitem__(self, index: int) -> Fields:
        row = self._table[index]
        return Fields(f"{self._name}[{index}]", {column: _as_written(value) for column, value in row.items()})


def _load(config: HuggingFaceConfig) -> _Table:
    try:
        import datasets
    except ImportError:
        raise MissingDependencyError(
            "a Hugging Face dataset needs the `datasets` library",
            where="data.source",
            fix=f"Install it with: {install_command('gptoss-train', 'datasets')}",
        ) from None
    name = str(config.name)
    is_saved = any((Path(name) / file).is_file() for file in SAVED)
    _refuse_without_effect(config, is_saved=is_saved)
    table: _Table
    try:
        if is_saved:
            table = _part_of_saved(datasets.load_from_disk(name), config)
        else:
            table = datasets.load_dataset(name, config.subset, split=config.split, revision=config.revision)
    except (datasets.exceptions.DatasetNotFoundError, ConnectionError) as error:
        raise NetworkError(f"the dataset cannot be had ({_one_line(error)})", where=name, fix=LOG_IN) from None
    except (ValueError, KeyError, FileNotFoundError, datasets.exceptions.DatasetsError) as error:
        raise CheckpointError(
            f"the dataset cannot be opened ({_one_line(error)})", where=name, fix="Correct data.huggingface."
        ) from None
    return table


def _refuse_without_effect(config: HuggingFaceConfig, *, is_saved: bool) -> None:
    """A folder has no revisions, and one that `save_to_disk` left no subsets either."""
    without = [
        key
        for key, is_of_none in (("subset", is_saved), ("revision", Path(str(config.name)).is_dir()))
        if is_of_none and getattr(config, key) is not None
    ]
    if without:
        kind = "a dataset that was saved by save_to_disk" if is_saved else "a folder"
        raise CheckpointError(
            f"{kind} has no {' and no '.join(without)}",
            where=config.name,
            fix=f"Leave out {' and '.join(f'data.huggingface.{key}' for key in without)}.",
        )


def _part_of_saved(saved: Any, config: HuggingFaceConfig) -> _Table:
    """What `split` says of a saved dataset: a split, a slice of one, several with + between them, or `all`."""
    import datasets

    parts = dict(saved) if isinstance(saved, datasets.DatasetDict) else {str(saved.split or UNNAMED): saved}
    if config.split in parts:
        whole: _Table = parts[config.split]
        return whole
    try:
        if config.split == ALL:
            chosen = list(parts.values())
        else:
            slices = datasets.ReadInstruction.from_spec(config.split).to_absolute(
                {name: len(part) for name, part in parts.items()}
            )
            chosen = [parts[piece.splitname].select(range(piece.from_, piece.to) or range(0)) for piece in slices]
    except ValueError as error:
        raise CheckpointError(
            f"the saved dataset has no such split ({_one_line(error)})",
            where=config.name,
            expected=f"{', '.join(map(repr, parts))}, a slice such as [:100] of one, or several with + between them",
            found=repr(config.split),
            fix="Correct data.huggingface.split.",
        ) from None
    joined: _Table = datasets.concatenate_datasets(chosen)
    return joined


def _as_written(value: Any) -> Any:
    """A value without the members that are None, in all objects inside of it; the entries of lists stay."""
    if isinstance(value, Mapping):
        return {name: _as_written(member) for name, member in value.items() if member is not None}
    return [_as_written(entry) for entry in value] if isinstance(value, list) else value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
