import pytest
from gptoss_parity import BFLOAT16, FLOAT32, Limit, tolerances_for
from gptoss_weights import CheckpointError


def test_coarser_dtype_decides():
    assert tolerances_for("float32", "float32") is FLOAT32
    assert tolerances_for("float32", "bfloat16") is BFLOAT16
    assert tolerances_for("bfloat16", "bfloat16") is BFLOAT16


@pytest.mark.parametrize("dtype", ["float64", "float16", "F32", ""])
def test_dtype_without_limits_is_refused(dtype):
    with pytest.raises(CheckpointError, match=f"computed in this dtype; expected float32 or bfloat16; found '{dtype}'"):
        tolerances_for("float32", dtype)


def test_published_limits_hold():
    assert FLOAT32.hidden.value == 2e-6
    assert FLOAT32.margin.value == 1e-5
    assert BFLOAT16.hidden.value == 3e-2


@pytest.mark.parametrize("tolerances", [FLOAT32, BFLOAT16])
def test_every_limit_has_a_reason(tolerances):
    assert set(tolerances.limits()) == {
        "hidden",
        "token",
        "router",
        "inner",
        "inner_token",
        "reached",
        "margin",
        "margin_per_rms",
    }
    assert all(limit.reason for limit in tolerances.limits().values())


def test_replace_changes_only_what_is_given():
    changed = FLOAT32.replace(hidden=1e-3, token=None)
    assert changed.hidden == Limit(1e-3, "given by the caller")
    assert changed.token == FLOAT32.token


def test_limits_hold_as_stated_up_to_eight_layers_and_then_grow():
    assert [FLOAT32.hidden.at(depth) for depth in (0, 1, 8)] == [2e-6] * 3
    assert FLOAT32.hidden.at(32) == pytest.approx(4e-6)
    assert FLOAT32.margin.at(32) == FLOAT32.margin.value
    assert Limit(1.0, "by hand").at(1000) == 1.0


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_limit_that_nothing_can_keep_is_refused(value):
    with pytest.raises(ValueError, match="a limit is at least 0"):
        FLOAT32.replace(hidden=value)


def test_float32_limits_grow_with_the_width_of_the_sums():
    assert FLOAT32.of_width(1024) is FLOAT32
    wide = FLOAT32.of_width(2880)
    assert wide.hidden.at(8) == pytest.approx(2e-6 * (2880 / 1024) ** 0.5)
    assert wide.hidden.at(32) == pytest.approx(2 * wide.hidden.at(8))
    assert "√(D / 1024)" in wide.hidden.reason
    assert wide.margin == FLOAT32.margin
    assert BFLOAT16.of_width(2880) is BFLOAT16
