import numpy as np
import pytest
from gptoss_parity import GoldenSource, Trace, TraceMetadata, save_trace
from gptoss_weights import CheckpointError, random_checkpoint


@pytest.fixture(scope="module")
def checkpoint(config):
    return random_checkpoint(config, seed=0)


@pytest.fixture
def golden(checkpoint, tmp_path):
    metadata = TraceMetadata(source="official", dtype="float32", checkpoint_digest=checkpoint.digest())
    save_trace(Trace(np.arange(5), {}, metadata), tmp_path / "golden.safetensors")
    return GoldenSource(tmp_path / "golden.safetensors")


def test_golden_answers_with_what_was_recorded(golden, checkpoint):
    trace = golden.record(checkpoint, range(5))
    assert trace.metadata.source == "official"
    assert trace.tokens.tolist() == [0, 1, 2, 3, 4]


def test_golden_of_other_tokens_is_refused(golden, checkpoint):
    with pytest.raises(CheckpointError, match=r"golden\.safetensors: the golden was recorded from other tokens"):
        golden.record(checkpoint, range(4))


def test_golden_of_another_dtype_is_refused(golden, checkpoint):
    with pytest.raises(CheckpointError, match="another dtype; expected bfloat16; found float32"):
        golden.record(checkpoint, range(5), dtype="bfloat16")


def test_golden_of_other_weights_is_refused(golden, config):
    with pytest.raises(CheckpointError, match="another checkpoint digest"):
        golden.record(random_checkpoint(config, seed=1), range(5))
