import dataclasses
import warnings
from pathlib import Path

import pytest
from gptoss_onnx import ModelMetadata, Recipe, StaticShape
from gptoss_onnx.metadata import WeightFileMark
from gptoss_weights import CheckpointError, GptOssConfig, GptOssWarning
from gptoss_weights.testing import tiny_config


@pytest.fixture
def metadata() -> ModelMetadata:
    return ModelMetadata(
        config=tiny_config(),
        source_format="hf",
        source_digest="abc",
        eos_token_ids=(3, 5),
        probes=("embedding",),
        recipe=Recipe(profile="fast", experts="int8", static=StaticShape(batch=2, length=9), remarks=("so",)),
        linked_folder=Path("elsewhere"),
        weight_files={"a.safetensors": WeightFileMark(bytes=3, head_sha256="x")},
        versions={"onnx": "1"},
    )


def test_properties_round_trip(metadata):
    assert ModelMetadata.from_properties(metadata.to_properties(), where="here") == metadata


def test_properties_of_others_are_left_alone(metadata):
    properties = metadata.to_properties() | {"author": "someone, in no JSON"}
    assert ModelMetadata.from_properties(properties, where="here") == metadata


@pytest.mark.parametrize("lost", ["gptoss.config", "gptoss.weight_files"])
def test_a_model_of_another_origin_is_refused(lost, metadata):
    properties = {key: value for key, value in metadata.to_properties().items() if key != lost}
    words = rf"model.onnx.*metadata of a gptoss-onnx export \(it lacks '{lost.removeprefix('gptoss.')}'\).*Export"
    with pytest.raises(CheckpointError, match=words):
        ModelMetadata.from_properties(properties, where="model.onnx")


def test_a_mark_tells_files_apart_by_size_and_by_head(tmp_path):
    for name, content in {"a": b"one", "b": b"one!", "c": b"two"}.items():
        (tmp_path / name).write_bytes(content)
    marks = [WeightFileMark.of(tmp_path / name) for name in "abc"]
    assert len(set(marks)) == 3
    assert marks[0] == WeightFileMark.of(tmp_path / "a")


def test_keys_that_the_config_only_carries_stay_with_the_checkpoint_and_warn_once(metadata):
    with pytest.warns(GptOssWarning, match="made_by"):
        config = GptOssConfig.from_json(tiny_config().to_openai() | {"made_by": "someone"})
    properties = dataclasses.replace(metadata, config=config).to_properties()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ModelMetadata.from_properties(properties, where="here").config == config
