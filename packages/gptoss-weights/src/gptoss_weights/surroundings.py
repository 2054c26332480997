"""What stands around the weights of a folder and would mislead another reader, though not this package.

Opening takes what the tensors say for the truth. Others go by what is written beside them: transformers
takes packed experts for missing unless the config announces them, a downloader adds up sizes from the
index, and nobody who reads the index sees a file that it does not list.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.folder import INDEX_NAME
from gptoss_weights.formats.layouts import HUGGINGFACE, HUGGINGFACE_PLAIN, announces_packed_experts
from gptoss_weights.formats.safetensors_files import read_header
from gptoss_weights.json_files import load_json_object
from gptoss_weights.wording import shown, shown_name

__all__ = ["config_problems", "index_warnings"]


def config_problems(checkpoint: Checkpoint, folder: Path) -> list[str]:
    """Why transformers would not load the folder's weights with the folder's config; empty if it would."""
    if checkpoint.format != HUGGINGFACE.name or announces_packed_experts(checkpoint.config.document):
        return []
    document = checkpoint.config.document
    found = shown(document["quantization_config"]) if "quantization_config" in document else "nothing"
    quantization = json.dumps({"quantization_config": {"quant_method": "mxfp4"}})[1:-1]
    return [
        f"{folder / 'config.json'}: quantization_config does not announce the packed experts, so transformers "
        f"takes them for missing, expected {quantization}, found {found}. "
        "Take the published config, or convert the checkpoint again."
    ]


def index_warnings(checkpoint: Checkpoint, folder: Path) -> Iterator[str]:
    """What a folder's index says that is not so, or leaves out, without doing harm to the tensors that it lists."""
    if checkpoint.format not in (HUGGINGFACE.name, HUGGINGFACE_PLAIN.name) or not (folder / INDEX_NAME).is_file():
        return
    index = load_json_object(folder / INDEX_NAME, what="the index")
    listed = set(index["weight_map"].values())
    for path in sorted(folder.glob("*.safetensors")):
        if path.name not in listed:
            yield f"{folder}/{shown_name(path.name)}: the index does not list this file, so nothing in it is read"
    metadata = index.get("metadata")
    if not isinstance(metadata, dict) or "total_size" not in metadata:
        return
    try:
        nbytes = sum(array.nbytes for name in listed for array in read_header(folder / name).values())
    except CheckpointError:  # since it was opened; whoever reads the values says so
        return
    if metadata["total_size"] != nbytes:
        found = shown(metadata["total_size"])
        yield f"{folder / INDEX_NAME}: total_size is wrong, expected {nbytes} bytes, found {found}"
