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
        CheckpointError: there is no such split or subset, or no row.
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
    try:
        if any((Path(name) / file).is_file() for file in SAVED):
            loaded = datasets.load_from_disk(name)
            table = loaded[config.split] if isinstance(loaded, datasets.DatasetDict) else loaded
        else:
            table = datasets.load_dataset(name, config.subset, split=config.split, revision=config.revision)
    except (datasets.exceptions.DatasetNotFoundError, ConnectionError) as error:
        raise NetworkError(f"the dataset cannot be had ({_one_line(error)})", where=name, fix=LOG_IN) from None
    except (ValueError, KeyError, FileNotFoundError, datasets.exceptions.DatasetsError) as error:
        raise CheckpointError(
            f"the dataset cannot be opened ({_one_line(error)})", where=name, fix="Correct data.huggingface."
        ) from None
    rows: _Table = table
    return rows


def _as_written(value: Any) -> Any:
    """A value without the members that are None, in all objects inside of it; the entries of lists stay."""
    if isinstance(value, Mapping):
        return {name: _as_written(member) for name, member in value.items() if member is not None}
    return [_as_written(entry) for entry in value] if isinstance(value, list) else value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
