"""Saved steps that are damaged: which part of one cannot be read, and what is left to go on from.

Orbax raises whatever it stumbles over. So it is looked up after the fact which file it was, without Orbax: the two
items that are JSON, and the lists of leaves of the two that are arrays.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator

from gptoss_weights import CheckpointError, GptOssError
from gptoss_weights.formats.orbax import Location, read_tree
from gptoss_weights.places import is_url

__all__ = ["advice_on_damage", "damage_named", "first_line"]

JSON_ITEMS, ARRAY_ITEMS = ("run", "data"), ("parameters", "optimizer")
JSON_FILE = "metadata"  # orbax-checkpoint, JsonCheckpointHandler
MISFITS = ("structures do not match", "not compatible with the stored")  # orbax-checkpoint: no damage
DETAILS = ". See full TensorStore details"  # some hundred lines
LONGEST = 300  # characters of another library's error
OF_FILES = (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError)  # and not of a network


@contextlib.contextmanager
def damage_named(folder: str, step: int, steps: Iterable[int]) -> Iterator[None]:
    """What goes wrong as a saved step is read, as a sentence that names it and what to do.

    Args:
        folder: With the saved steps, or its URL.
        step: The one that is read.
        steps: All that are saved.

    Raises:
        CheckpointError: the step is damaged, or holds other arrays than are asked for.
    """
    try:
        yield
    except (GptOssError, MemoryError, PermissionError):
        raise
    except Exception as error:  # Orbax raises of every kind
        if "RESOURCE_EXHAUSTED" in str(error) or (is_url(folder) and not isinstance(error, OF_FILES)):
            raise
        where = f"{folder}/{step}"
        if any(words in str(error) for words in MISFITS):
            raise CheckpointError(
                f"the checkpoint of the run cannot be restored ({first_line(error)})",
                where=where,
                expected="the model, the method and the optimizer of the config",
                fix="Give the config of that run, or another run_name.",
            ) from error
        raise CheckpointError(
            "the checkpoint of the run is damaged",
            where=where,
            found="; ".join(_damages(where)) or first_line(error),
            fix=advice_on_damage(folder, step, steps),
        ) from error


def advice_on_damage(folder: str, step: int, steps: Iterable[int]) -> str:
    """What to remove so that the newest step is one that is whole, as far as can be told without reading all arrays."""
    spoilt = [step]
    for earlier in sorted((one for one in steps if one < step), reverse=True):
        if not _damages(f"{folder}/{earlier}"):
            return f"Remove {_shown(folder, spoilt)}: the newest saved step then is {earlier}."
        spoilt.append(earlier)
    return f"No other saved step is whole: remove {_shown(folder, spoilt)} and begin anew, or give another run_name."


def first_line(error: Exception) -> str:
    """Of what another library has to say."""
    text = str(error).partition(DETAILS)[0]
    return next(iter(text.splitlines()), type(error).__name__)[:LONGEST]


def _shown(folder: str, steps: list[int]) -> str:
    return ", ".join(f"{folder}/{step}" for step in sorted(steps))


def _damages(where: str) -> list[str]:
    """What of a saved step is missing or unreadable; chunks of arrays are not looked at."""
    found = []
    for item in (*JSON_ITEMS, *ARRAY_ITEMS):
        place = Location.at(f"{where}/{item}")
        try:
            if item in ARRAY_ITEMS:
                read_tree(place)
            elif (raw := place.read(JSON_FILE)) is None:
                found.append(f"no {item}/{JSON_FILE}")
            elif not isinstance(json.loads(raw), dict):
                found.append(f"{item}/{JSON_FILE} that holds something else")
        except (ValueError, OSError, RecursionError) as error:
            found.append(f"{item}/{JSON_FILE} that cannot be read ({first_line(error)})")
        except CheckpointError as error:
            found.append(f"{item}: {error.what}")
    return found
