"""An error says what, where, what was expected and found, and what to do, in this order."""

import pytest
from gptoss_weights import (
    CheckpointError,
    GptOssError,
    MissingDependencyError,
    NetworkError,
    NotEnoughSpaceError,
    ParityError,
)


def test_sentence_has_its_parts_in_order() -> None:
    error = CheckpointError("it is wrong", where="model.safetensors", expected=3, found=4, fix="Try again.")
    assert str(error) == "model.safetensors: it is wrong; expected 3; found 4. Try again."
    assert (error.what, error.where, error.expected, error.found) == ("it is wrong", "model.safetensors", 3, 4)


def test_parts_may_be_missing_and_empty_findings_are_told() -> None:
    assert str(GptOssError("it is wrong")) == "it is wrong"
    assert str(GptOssError("it is wrong", found=0)) == "it is wrong; found 0"


@pytest.mark.parametrize(
    "kind", [CheckpointError, ParityError, MissingDependencyError, NotEnoughSpaceError, NetworkError]
)
def test_every_kind_is_one_of_ours(kind: type[GptOssError]) -> None:
    assert issubclass(kind, GptOssError)
