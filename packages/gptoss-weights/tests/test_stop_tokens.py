"""Where generation stops: the generation config, else the config, else Harmony's own ids."""

import json
from pathlib import Path

import pytest
from gptoss_weights import Checkpoint, CheckpointError, GptOssConfig, open_checkpoint, random_checkpoint
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


@pytest.mark.parametrize("value", [211, -1, "2", [1, 2.0], True, {"id": 1}])
def test_an_entry_that_is_no_id_is_refused(folder: Path, value: object) -> None:
    with pytest.raises(CheckpointError, match=r"eos_token_id is no id of this vocabulary; expected 0 … 210"):
        eos_token_ids(_with_generation_config(folder, {"eos_token_id": value}))


def test_generation_config_that_is_no_json_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"generation_config\.json: the generation config is not valid JSON"):
        eos_token_ids(_with_generation_config(folder, "{"))
