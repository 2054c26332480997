import gptoss_model
import pytest


def test_every_public_name_is_there():
    for name in gptoss_model.__all__:
        assert getattr(gptoss_model, name) is not None
    assert dir(gptoss_model) == sorted(gptoss_model.__all__)


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="has no attribute 'loda_model'"):
        gptoss_model.loda_model  # noqa: B018
