"""The published repositories, and what of them each layout needs."""

import pytest
from gptoss_weights import CheckpointError
from gptoss_weights.hub.selection import select_paths

SMALL = [
    "LICENSE",
    "USAGE_POLICY",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
]
# As the file lists of openai/gpt-oss-20b and openai/gpt-oss-120b on the Hub.
GPT_OSS_20B = [
    *SMALL,
    ".gitattributes",
    "README.md",
    "metal/model.bin",
    *(f"model-0000{number}-of-00002.safetensors" for number in range(3)),
    "model.safetensors.index.json",
    "original/config.json",
    "original/dtypes.json",
    "original/model.safetensors",
]
# Bytes of its large files, by their pointers in git.
GPT_OSS_20B_BYTES = {
    "metal/model.bin": 13_750_886_400,
    "model-00000-of-00002.safetensors": 4_792_272_488,
    "model-00001-of-00002.safetensors": 4_798_702_184,
    "model-00002-of-00002.safetensors": 4_170_342_232,
    "original/model.safetensors": 13_761_300_984,
    "tokenizer.json": 27_868_174,
}
GPT_OSS_120B = [
    *SMALL,
    ".gitattributes",
    "README.md",
    "metal/model.bin",
    *(f"model-{number:05d}-of-00014.safetensors" for number in range(15)),
    "model.safetensors.index.json",
    "original/config.json",
    "original/dtypes.json",
    *(f"original/model--{number:05d}-of-00007.safetensors" for number in range(1, 8)),
    "original/model.safetensors.index.json",
]


@pytest.mark.parametrize("repository", [GPT_OSS_20B, GPT_OSS_120B])
def test_original_is_its_folder_and_the_small_files(repository):
    expected = [path for path in repository if path in SMALL or path.startswith("original/")]
    assert select_paths(repository, "original", repo="r") == sorted(expected)


@pytest.mark.parametrize("repository", [GPT_OSS_20B, GPT_OSS_120B])
def test_hf_is_the_shards_their_index_and_the_small_files(repository):
    expected = [path for path in repository if path in SMALL or path.startswith("model")]
    assert select_paths(repository, "hf", repo="r") == sorted(expected)


@pytest.mark.parametrize(("layout", "gigabytes"), [("original", 13.8), ("hf", 13.8), ("all", 41.3)])
def test_one_layout_is_a_third_of_the_repository(layout, gigabytes):
    paths = select_paths(GPT_OSS_20B, layout, repo="r")
    assert round(sum(GPT_OSS_20B_BYTES.get(path, 0) for path in paths) / 1e9, 1) == gigabytes


def test_manifest_comes_with_the_layout_that_it_describes():
    paths = [*GPT_OSS_20B, "manifest.json", "original/manifest.json"]
    assert [path for path in select_paths(paths, "hf", repo="r") if "manifest" in path] == ["manifest.json"]
    assert [path for path in select_paths(paths, "original", repo="r") if "manifest" in path] == [
        "original/manifest.json"
    ]


def test_all_is_everything():
    assert select_paths(GPT_OSS_20B, "all", repo="r") == sorted(GPT_OSS_20B)


@pytest.mark.parametrize("name", ["LICENSE.txt", "license.md", "LICENCE", "NOTICE", "COPYING", "USAGE_POLICY"])
def test_terms_travel_along_under_any_usual_name(name):
    assert name in select_paths(["config.json", "model.safetensors", name], "hf", repo="r")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling_gpt_oss.py", "README.md", "onnx/model.safetensors"])
def test_pickles_code_and_other_formats_stay_behind(name):
    assert select_paths(["config.json", "model.safetensors", name], "hf", repo="r") == [
        "config.json",
        "model.safetensors",
    ]


def test_repository_without_any_weights_is_refused_with_what_it_has():
    with pytest.raises(CheckpointError, match=r"^r: the repository has no weights in layout hf; .* found model.gguf$"):
        select_paths(["config.json", "model.gguf"], "hf", repo="r")


def test_unknown_layout_is_a_bad_argument():
    with pytest.raises(ValueError, match="no layout 'metal'; choose one of original, hf, all"):
        select_paths(GPT_OSS_20B, "metal", repo="r")
