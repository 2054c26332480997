"""What a model says about itself: `metadata_props` of the ONNX file, written at export, read when it is run."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptoss_weights import CheckpointError, GptOssConfig

from gptoss_onnx.recipe import Recipe, StaticShape

__all__ = ["LOGITS_TO_KEEP", "MODEL_FILE", "ModelMetadata", "WeightFileMark"]

MODEL_FILE = "model.onnx"
LOGITS_TO_KEEP = "logits_to_keep"  # an input, named as in transformers: how many columns get logits, 0 for all
_PREFIX = "gptoss."
_MARKED_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightFileMark:
    """What a weight file was at export: a file that changed since would be read at the wrong offsets.

    Attributes:
        bytes: Its size.
        head_sha256: SHA-256 of its first mebibyte, which holds the header that says where each tensor stands.
    """

    bytes: int
    head_sha256: str

    @staticmethod
    def of(path: Path) -> "WeightFileMark":
        """The mark of a file as it is now."""
        with path.open("rb") as file:
            head = file.read(_MARKED_BYTES)
            return WeightFileMark(bytes=os.fstat(file.fileno()).st_size, head_sha256=hashlib.sha256(head).hexdigest())


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """Config, provenance and files of an exported model.

    Attributes:
        config: The geometry.
        source_format: Layout that the checkpoint was in.
        source_digest: `gptoss_onnx.source_digest` of the checkpoint: over samples of every tensor.
        eos_token_ids: Ids that end a sequence.
        probes: Names of the outputs beside logits and cache.
        recipe: In which operators and numbers.
        weight_files: Relative path → what the file was.
        linked_folder: The folder that those paths are relative to; None for the model's own.
        versions: Package → version that took part in the export.
    """

    config: GptOssConfig
    source_format: str
    source_digest: str
    eos_token_ids: tuple[int, ...]
    probes: tuple[str, ...]
    recipe: Recipe
    weight_files: Mapping[str, WeightFileMark]
    linked_folder: Path | None
    versions: Mapping[str, str]

    def to_properties(self) -> dict[str, str]:
        """The `metadata_props`: one JSON document a key."""
        document = {
            "recipe": dataclasses.asdict(self.recipe),
            "config": self.config.numbers(),
            "source_format": self.source_format,
            "source_digest": self.source_digest,
            "eos_token_ids": list(self.eos_token_ids),
            "probes": list(self.probes),
            "weight_files": {name: dataclasses.asdict(mark) for name, mark in self.weight_files.items()},
            "linked_folder": None if self.linked_folder is None else str(self.linked_folder),
            "versions": dict(self.versions),
        }
        return {f"{_PREFIX}{key}": json.dumps(value) for key, value in document.items()}

    @staticmethod
    def from_properties(properties: Mapping[str, str], *, where: object) -> "ModelMetadata":
        """Reads `metadata_props` back.

        Raises:
            CheckpointError: it is no export of this package.
        """
        try:
            document = {
                key.removeprefix(_PREFIX): json.loads(value)
                for key, value in properties.items()
                if key.startswith(_PREFIX)
            }
            return ModelMetadata(
                config=GptOssConfig.from_json(document["config"], where=f"{where}: {_PREFIX}config"),
                source_format=document["source_format"],
                source_digest=document["source_digest"],
                eos_token_ids=tuple(document["eos_token_ids"]),
                probes=tuple(document["probes"]),
                recipe=_recipe(document["recipe"]),
                linked_folder=None if document["linked_folder"] is None else Path(document["linked_folder"]),
                weight_files={name: WeightFileMark(**mark) for name, mark in document["weight_files"].items()},
                versions=document["versions"],
            )
        except (KeyError, TypeError, ValueError) as error:
            what = f"it lacks {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
            raise CheckpointError(
                f"the model does not carry the metadata of a gptoss-onnx export ({what})",
                where=where,
                fix="Export the checkpoint again with `gptoss-onnx export`.",
            ) from None


def _recipe(document: Mapping[str, Any]) -> Recipe:
    static = document["static"]
    shape = None if static is None else StaticShape(**static)
    return Recipe(**{**document, "static": shape, "remarks": tuple(document["remarks"])})
