"""describe_export: what an exported folder holds, from its graph and its files' sizes alone; nothing is run."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from gptoss_onnx.metadata import MODEL_FILE, ModelMetadata
from gptoss_onnx.session import read_metadata, weight_file_problems

__all__ = ["Description", "describe_export"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """An exported model, described.

    Attributes:
        metadata: What it says about itself.
        model_bytes: Size of `model.onnx`.
        weight_bytes: Size of each weight file at export.
        problems: What is wrong with the weight files now.
        inputs: Name → axes: numbers, or names where any number goes.
        outputs: The same.
        operators: Operator, its domain in front unless it is ONNX's own → how often, bodies of loops included.
        opsets: Domain → version.
    """

    metadata: ModelMetadata
    model_bytes: int
    weight_bytes: Mapping[str, int]
    problems: Sequence[str]
    inputs: Mapping[str, Sequence[int | str]]
    outputs: Mapping[str, Sequence[int | str]]
    operators: Mapping[str, int]
    opsets: Mapping[str, int]

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that it runs in here; none for a part of a model, and for profile cuda."""
        recipe = self.metadata.recipe
        if recipe.component is not None or recipe.profile == "cuda":
            return ()
        return (*(["exact"] if recipe.is_exact else []), *(["turbo"] if recipe.has_turbo else []))

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON document."""
        metadata = self.metadata
        return {
            "recipe": dataclasses.asdict(metadata.recipe),
            "modes": list(self.modes),
            "config": metadata.config.numbers(),
            "source_format": metadata.source_format,
            "source_digest": metadata.source_digest,
            "eos_token_ids": list(metadata.eos_token_ids),
            "probes": list(metadata.probes),
            "versions": dict(metadata.versions),
            "linked_folder": None if metadata.linked_folder is None else str(metadata.linked_folder),
            "model_bytes": self.model_bytes,
            "weight_bytes": dict(self.weight_bytes),
            "problems": list(self.problems),
            "inputs": {name: list(axes) for name, axes in self.inputs.items()},
            "outputs": {name: list(axes) for name, axes in self.outputs.items()},
            "operators": dict(self.operators),
            "opsets": dict(self.opsets),
        }


def describe_export(folder: Path | str) -> Description:
    """Describes the folder that `export_onnx` made.

    Raises:
        CheckpointError: there is no such model.
    """
    folder = Path(folder)
    path = folder / MODEL_FILE
    metadata = read_metadata(path)
    model = onnx.load_model(path, load_external_data=False)
    counts = Counter(f"{node.domain}.{node.op_type}".lstrip(".") for node in _nodes(model.graph))
    return Description(
        metadata=metadata,
        model_bytes=path.stat().st_size,
        weight_bytes={name: mark.bytes for name, mark in metadata.weight_files.items()},
        problems=weight_file_problems(folder, metadata),
        inputs={value.name: _axes(value) for value in model.graph.input},
        outputs={value.name: _axes(value) for value in model.graph.output},
        operators=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        opsets={opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
    )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _axes(value: onnx.ValueInfoProto) -> list[int | str]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
