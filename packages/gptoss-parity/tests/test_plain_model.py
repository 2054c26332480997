"""The NumPy implementation against what the official code computed."""

import dataclasses

from gptoss_parity import compare, load_trace, make_source
from gptoss_weights.demo import demo_checkpoint, demo_golden_path


def test_plain_model_agrees_with_the_official_code():
    golden = load_trace(demo_golden_path("float32"))
    comparison = compare(golden, make_source("numpy").record(demo_checkpoint(), golden.tokens))
    assert comparison.passed, comparison.verdict
    assert not comparison.warnings


def test_forced_experts_are_taken_and_logits_stay_the_models_own():
    checkpoint = demo_checkpoint()
    own = make_source("numpy").record(checkpoint, range(20))
    choices = {name: (own[name] + 1) % checkpoint.config.num_experts for name in own if name.endswith("indices")}
    forced = make_source("numpy").record(checkpoint, range(20), choices=choices)
    assert all((forced[name] == choices[name]).all() for name in choices)
    assert (forced["layers.0.router_logits"] == own["layers.0.router_logits"]).all()
    assert (forced["layers.0.output"] != own["layers.0.output"]).any()
    assert forced.metadata.options["experts"] == "replayed"


def test_forcing_its_own_choice_changes_nothing():
    checkpoint = demo_checkpoint()
    own = make_source("numpy").record(checkpoint, range(20))
    again = make_source("numpy").record(checkpoint, range(20), choices=own)
    assert all((again[name] == own[name]).all() for name in own)
    assert dataclasses.asdict(again.metadata)["options"] == {"experts": "replayed"}
