import pytest
from gptoss_parity.sources.base import check_tokens, metadata_of, wanted_probes
from gptoss_weights import CheckpointError, random_checkpoint


@pytest.fixture(scope="module")
def checkpoint(config):
    return random_checkpoint(config, seed=0)


@pytest.mark.parametrize("token", [-1, 211, 10**30])
def test_token_outside_the_vocabulary_is_named(checkpoint, token):
    with pytest.raises(CheckpointError, match=rf"tokens\[1\]: .* expected 0 … 210; found {token}"):
        check_tokens(checkpoint, [0, token])


def test_empty_prompt_is_refused(checkpoint):
    with pytest.raises(CheckpointError, match="the prompt has no tokens"):
        check_tokens(checkpoint, [])


def test_wanted_probes_are_all_but_the_tokens(checkpoint):
    probes = wanted_probes(checkpoint, check_tokens(checkpoint, [1, 2]))
    assert probes[0] == "embedding"
    assert probes[-1] == "logits"
    assert "tokens" not in probes


def test_metadata_name_the_checkpoint_and_the_versions(checkpoint):
    metadata = metadata_of(
        checkpoint, source="test", dtype="float32", distributions=["numpy"], options={"threads": "2"}
    )
    assert metadata.checkpoint_digest == checkpoint.digest()
    assert metadata.config == checkpoint.config
    assert list(metadata.versions) == ["numpy"]
