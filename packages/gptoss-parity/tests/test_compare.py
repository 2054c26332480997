import dataclasses

import numpy as np
import pytest
from gptoss_parity import FLOAT32, Trace, compare
from gptoss_weights import CheckpointError, GptOssConfig, GptOssWarning, ParityError


def first_failure(reference, candidate):
    comparison = compare(reference, candidate)
    assert not comparison.passed
    with pytest.raises(ParityError):
        comparison.raise_if_failed()
    return comparison.first_failure


def test_trace_against_itself_is_exactly_zero(trace):
    comparison = compare(trace, trace)
    assert comparison.passed
    assert all(probe.max_abs == 0 and probe.relative_l2 == 0 for probe in comparison.probes)
    assert all(layer.same_order.all() for layer in comparison.routing.layers)
    assert next(probe for probe in comparison.probes if probe.name == "logits").argmax_agreement == 1
    comparison.raise_if_failed()


def test_every_floating_point_probe_is_measured(trace):
    measured = {probe.name for probe in compare(trace, trace).probes}
    assert measured == {name for name in trace if not name.endswith("router_indices")}


def test_rounding_errors_pass(trace, edited):
    def rounding(arrays):
        rng = np.random.default_rng(1)
        for name, array in arrays.items():
            if array.dtype == np.float32:
                arrays[name] = (array * (1 + 1e-7 * rng.normal(size=array.shape))).astype(np.float32)

    assert compare(trace, edited(rounding)).passed


def test_window_off_by_one_is_caught_where_it_begins(trace, edited, config):
    """From the first query that sees a key too many, everything in and behind layer 0 is slightly off."""

    def off_by_one(arrays):
        for name, array in arrays.items():
            if name != "embedding" and array.dtype == np.float32:
                array[config.sliding_window :] *= 1 + 1e-3

    failure = first_failure(trace, edited(off_by_one))
    assert failure.probe == "layers.0.attention_residual"


def test_fault_of_a_single_late_position_is_caught(trace, edited):
    def last_token_only(arrays):
        arrays["layers.2.attention_residual"][-1] *= 1 + 1e-4

    assert first_failure(trace, edited(last_token_only)).probe == "layers.2.attention_residual"


def test_swapped_expert_row_in_the_last_layer_is_caught(trace, edited, config):
    """One expert's two output rows are exchanged: only tokens that chose it differ, in two places."""
    last = config.num_hidden_layers - 1

    def swapped(arrays):
        output = arrays[f"layers.{last}.output"]
        chose = (arrays[f"layers.{last}.router_indices"] == 2).any(axis=-1)
        assert chose.any()
        output[chose, 3], output[chose, 4] = output[chose, 4], output[chose, 3]

    assert first_failure(trace, edited(swapped)).probe == f"layers.{last}.output"


def test_one_flipped_expert_is_caught(trace, edited, config):
    def flip(arrays):
        indices = arrays["layers.1.router_indices"]
        indices[7, -1] = min(set(range(config.num_experts)) - set(indices[7].tolist()))

    failure = first_failure(trace, edited(flip))
    assert failure.probe == "layers.1.router_indices"
    assert "token 7 chooses experts" in failure.sentence


def test_wrong_gate_weights_are_caught(trace, edited, config):
    """Softmax over all experts before the choice, instead of over the chosen."""

    def softmax_first(arrays):
        logits = arrays["layers.0.router_logits"]
        shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        arrays["layers.0.router_weights"] = np.take_along_axis(shares, arrays["layers.0.router_indices"], axis=-1)

    assert first_failure(trace, edited(softmax_first)).probe == "layers.0.router_weights"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_value_is_caught(trace, edited, value):
    def spoil(arrays):
        arrays["final_norm"][3, 2] = value

    failure = first_failure(trace, edited(spoil))
    assert (failure.probe, failure.measure) == ("final_norm", "finite")


def test_not_finite_trace_fails_against_itself(edited):
    def spoil(arrays):
        arrays["logits"][0, 0] = np.nan

    spoiled = edited(spoil)
    assert first_failure(spoiled, spoiled).probe == "logits"


@pytest.mark.parametrize("name", ["embedding", "layers.2.router_indices", "layers.1.output", "logits"])
def test_missing_probe_is_caught_on_either_side(trace, edited, name):
    lacking = edited(lambda arrays: arrays.pop(name))
    failure = first_failure(trace, lacking)
    assert (failure.probe, failure.sentence) == (name, "missing in the candidate")
    failure = first_failure(lacking, trace)
    assert (failure.probe, failure.sentence) == (name, "missing in the reference")


def test_traces_with_nothing_in_common_fail(edited):
    empty = edited(lambda arrays: arrays.clear(), config=None)
    assert "no probe in common" in first_failure(empty, empty).sentence


@pytest.mark.parametrize("name", ["embedding", "layers.2.router_indices", "layers.1.output", "logits"])
@pytest.mark.parametrize("side", ["reference", "candidate"])
def test_probe_that_both_lack_is_missed_where_either_says_what_the_model_is(edited, config, name, side):
    def lacking(known):
        return edited(lambda arrays: arrays.pop(name), config=config if known else None)

    failure = first_failure(lacking(side == "reference"), lacking(side == "candidate"))
    assert (failure.probe, failure.sentence) == (name, "missing in both traces")


def test_without_a_config_the_reference_says_which_probes_there_are(edited):
    only = edited(lambda arrays: [arrays.pop(name) for name in list(arrays) if name != "logits"], config=None)
    assert compare(only, only).passed


def test_different_tokens_are_refused(trace):
    tokens = trace.tokens.copy()
    tokens[5] = (tokens[5] + 1) % 7
    other = Trace(tokens, trace.arrays, trace.metadata, where="other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors: tokens\[5\]: .*different tokens"):
        compare(trace, other)


def test_prompts_of_different_length_are_refused(trace):
    shorter = Trace(trace.tokens[:-1], {name: array[:-1] for name, array in trace.items()}, trace.metadata)
    with pytest.raises(CheckpointError, match="prompts of different length"):
        compare(trace, shorter)


def test_models_of_different_geometry_are_refused(trace):
    arrays = dict(trace.arrays) | {"logits": trace["logits"][:, 1:]}
    other = Trace(trace.tokens, arrays, dataclasses.replace(trace.metadata, config=None))
    with pytest.raises(CheckpointError, match="models of different geometry"):
        compare(trace, other)


def test_different_digests_are_a_warning(edited):
    comparison = compare(edited(checkpoint_digest="a" * 64), edited(checkpoint_digest="b" * 64))
    assert comparison.passed
    assert comparison.warnings == (
        "the traces come from different checkpoints: aaaaaaaaaaaa (reference) and bbbbbbbbbbbb (candidate)",
    )
    assert not compare(edited(checkpoint_digest="a" * 64), edited()).warnings


def test_different_configs_are_a_warning(edited, config):
    other = dataclasses.replace(config, sliding_window=config.sliding_window + 1)
    (warning,) = compare(edited(), edited(config=other)).warnings
    assert "sliding_window is 11 (reference) and 12 (candidate)" in warning


def test_keys_that_a_config_only_carries_are_no_difference(edited, config):
    with pytest.warns(GptOssWarning, match="made_by"):
        carrying = GptOssConfig.from_json(config.to_openai() | {"made_by": "someone"})
    assert compare(edited(config=carrying), edited()).warnings == ()
    assert compare(edited(), edited(config=carrying)).warnings == ()


def test_failures_stand_in_the_order_of_the_forward_pass(trace, edited):
    def several(arrays):
        arrays["logits"] += 1
        arrays["layers.2.output"] += 1
        arrays["layers.0.router_weights"] += 1
        del arrays["final_norm"]

    failures = compare(trace, edited(several)).failures
    probes = list(dict.fromkeys(failure.probe for failure in failures))
    assert probes == ["layers.0.router_weights", "layers.2.output", "final_norm", "logits"]


def test_bfloat16_limits_apply_when_either_side_is_bfloat16(trace, edited):
    def noise(arrays):
        arrays["logits"] *= 1.01

    assert not compare(trace, edited(noise)).passed
    assert compare(trace, edited(noise, dtype="bfloat16")).passed


def test_near_tie_flip_excuses_only_what_it_reaches(trace, edited, config):
    """A flip at token 20 of layer 1 may change that token and, less, the later ones; never the earlier."""

    def tie(arrays):
        logits, indices = arrays["layers.1.router_logits"], arrays["layers.1.router_indices"]
        runner_up = np.argsort(-logits[20])[config.experts_per_token]
        logits[20, runner_up] = logits[20, indices[20, -1]] - 1e-6

    def flipped(arrays, behind):
        tie(arrays)
        logits, indices = arrays["layers.1.router_logits"], arrays["layers.1.router_indices"]
        indices[20, -1] = np.argsort(-logits[20], kind="stable")[config.experts_per_token]
        arrays["layers.1.output"][20] += 1
        arrays["layers.3.output"][behind] *= 1.05

    reference = edited(tie)
    assert compare(reference, edited(lambda arrays: flipped(arrays, slice(20, None)))).passed
    failure = first_failure(reference, edited(lambda arrays: flipped(arrays, slice(19, None))))
    assert failure.probe == "layers.3.output"


def test_tolerances_are_an_argument(trace, edited):
    def noise(arrays):
        arrays["logits"] *= 1.0001

    assert not compare(trace, edited(noise)).passed
    assert compare(trace, edited(noise), FLOAT32.replace(hidden=1e-3, token=1e-3)).passed


def test_verdict_names_the_first_failure_and_both_sides(trace, edited):
    def noise(arrays):
        arrays["logits"] *= 1.01

    verdict = compare(trace, edited(noise)).verdict
    assert verdict.startswith("parity fails first at logits: relative L2 is 1.00e-02, past 2e-06")
    assert "synthetic float32 against synthetic float32" in verdict
    assert compare(trace, trace).verdict.startswith("parity holds at all 19 probes")
