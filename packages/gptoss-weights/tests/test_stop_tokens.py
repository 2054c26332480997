"""Where generation stops: the generation config, else the config, else Harmony's own ids."""

import json
import warnings
from pathlib import Path

import pytest
from gptoss_weights import Checkpoint, CheckpointError, GptOssConfig, GptOssWarning, open_checkpoint, random_checkpoint
from gptoss_weights.stop_tokens import HARMONY_EOS_TOKEN_IDS, eos_token_ids
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint


def _with_generation_config(folder: Path, document: object) -> Checkpoint:
    (folder / "generation_config.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return open_checkpoint(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_checkpoint(tmp_path / "tiny", format="hf")


def test_generation_config_comes_first(folder: Path) -> None:
    assert eos_token_ids(_with_generation_config(folder, {"eos_token_id": [7, 3]})) == (7, 3)


def test_one_id_need_not_be_a_list(folder: Path) -> None:
    assert eos_token_ids(_with_generation_config(folder, {"eos_token_id": 5})) == (5,)


def test_config_speaks_where_no_generation_config_does(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": 11}))
    assert eos_token_ids(open_checkpoint(folder)) == (11,)
    assert eos_token_ids(_with_generation_config(folder, {"do_sample": True})) == (11,)


def test_published_vocabulary_stops_at_harmony_ids() -> None:
    harmony = tiny_config(vocab_size=201088)
    assert eos_token_ids(random_checkpoint(harmony, seed=0)) == HARMONY_EOS_TOKEN_IDS


def test_other_vocabulary_without_any_word_stops_nowhere() -> None:
    config: GptOssConfig = tiny_config()
    assert eos_token_ids(random_checkpoint(config, seed=0)) == ()


@pytest.mark.parametrize(("value", "kept"), [(211, ()), (-1, ()), ([210, 211, 3], (210, 3)), ([], ())])
def test_an_id_outside_the_vocabulary_is_left_out_with_a_warning(
    folder: Path, value: object, kept: tuple[int, ...], recwarn: pytest.WarningsRecorder
) -> None:
    warnings.simplefilter("always")
    assert eos_token_ids(_with_generation_config(folder, {"eos_token_id": value})) == kept
    told = [str(warning.message) for warning in recwarn if warning.category is GptOssWarning]
    outside = [token for token in (value if isinstance(value, list) else [value]) if token not in kept]
    path = folder / "generation_config.json"
    assert told == [f"{path}: eos_token_id {i} is left out, for the vocabulary is 0 … 210" for i in outside]


@pytest.mark.parametrize("value", ["2", [1, 2.0], True, {"id": 1}, [[1]], [None]])
def test_an_entry_that_is_no_id_is_refused(folder: Path, value: object) -> None:
    words = r"generation_config\.json: eos_token_id is neither an id nor a list of ids; found "
    with pytest.raises(CheckpointError, match=words):
        eos_token_ids(_with_generation_config(folder, {"eos_token_id": value}))


def test_generation_config_that_is_no_json_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"generation_config\.json: the generation config is not valid JSON"):
        eos_token_ids(_with_generation_config(folder, "{"))
    for depth in (500, 200_000):
        deep = f'{{"a": {"[" * depth}{"]" * depth}}}'
        with pytest.raises(CheckpointError, match="the generation config is nested too deeply"):
            eos_token_ids(_with_generation_config(folder, deep))
