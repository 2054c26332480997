"""What would be written at the published sizes is what was published."""

import json
from pathlib import Path
from typing import Any

import pytest
from gptoss_weights import GPT_OSS_20B, GPT_OSS_120B, GptOssConfig
from gptoss_weights.formats.layouts import HUGGINGFACE, OPENAI, Layout, index_text
from gptoss_weights.formats.safetensors_writer import plan_file_sizes, plan_shards

PUBLISHED = "published/gpt-oss-20b"


def test_shards_of_the_20b_have_the_published_sizes() -> None:
    assert plan_file_sizes(GPT_OSS_20B, HUGGINGFACE) == {
        "model-00000-of-00002.safetensors": 4792272488,
        "model-00001-of-00002.safetensors": 4798702184,
        "model-00002-of-00002.safetensors": 4170342232,
    }
    assert plan_file_sizes(GPT_OSS_20B, OPENAI) == {"model.safetensors": 13761300984}


def test_shards_of_the_120b_are_as_many_as_published() -> None:
    assert list(plan_file_sizes(GPT_OSS_120B, HUGGINGFACE))[::14] == [
        "model-00000-of-00014.safetensors",
        "model-00014-of-00014.safetensors",
    ]
    assert list(plan_file_sizes(GPT_OSS_120B, OPENAI))[::6] == [
        "model--00001-of-00007.safetensors",
        "model--00007-of-00007.safetensors",
    ]


@pytest.mark.parametrize(
    ("config", "layout", "tensors", "nbytes"),
    [
        (GPT_OSS_20B, OPENAI, 363, 13_761_264_768),
        (GPT_OSS_20B, HUGGINGFACE, 459, 13_761_264_768),
        (GPT_OSS_120B, OPENAI, 543, 65_248_815_744),
        (GPT_OSS_120B, HUGGINGFACE, 687, 65_248_815_744),
    ],
)
def test_tensors_and_bytes_of_the_published_models(
    config: GptOssConfig, layout: Layout, tensors: int, nbytes: int
) -> None:
    listed = layout.tensors(config)
    assert len(listed) == tensors
    assert sum(tensor.nbytes for tensor in listed) == nbytes


def test_index_of_the_20b_is_the_published_one(reference: Path) -> None:
    text = (reference / PUBLISHED / "model.safetensors.index.json").read_text()
    assert index_text(plan_shards(GPT_OSS_20B, HUGGINGFACE), HUGGINGFACE.tensors(GPT_OSS_20B)) == text


def test_small_files_of_the_20b_are_the_published_ones(reference: Path) -> None:
    folder = reference / PUBLISHED
    for layout, place in ((HUGGINGFACE, folder), (OPENAI, folder / "original")):
        for name, text in layout.small_files(GPT_OSS_20B).items():
            assert text == (place / name).read_text(), name


def test_no_published_file_is_larger_than_its_limit() -> None:
    for shards in (plan_shards(GPT_OSS_20B, HUGGINGFACE), plan_shards(GPT_OSS_120B, HUGGINGFACE)):
        assert max(sum(tensor.nbytes for tensor in tensors) for tensors in shards.values()) <= 4_800_000_000


@pytest.mark.parametrize("said", [{}, {"quantization_config": None}, {"quantization_config": {"quant_method": "fp8"}}])
def test_packed_experts_are_announced_to_transformers(said: dict[str, Any]) -> None:
    document = GPT_OSS_20B.to_huggingface()
    document.pop("quantization_config", None)
    written = json.loads(HUGGINGFACE.small_files(GptOssConfig.from_json(document | said))["config.json"])
    assert written["quantization_config"]["quant_method"] == "mxfp4"
    assert list(written) == sorted(written)
