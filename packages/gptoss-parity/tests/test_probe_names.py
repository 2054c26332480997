import dataclasses

import pytest
from gptoss_parity.probe_names import parse_probe_name
from gptoss_weights import probe_specs


def test_every_probe_parses_to_what_its_spec_says(config):
    for name, spec in probe_specs(config, 5).items():
        parsed = parse_probe_name(name)
        assert parsed is not None
        assert (parsed.axes, parsed.is_integer, parsed.layer) == (spec.axes, spec.is_integer, spec.layer)


def test_order_is_that_of_the_forward_pass(config):
    names = list(probe_specs(dataclasses.replace(config, num_hidden_layers=12), 5))  # 2 before 10
    assert sorted(names, key=lambda name: parse_probe_name(name).order) == names


@pytest.mark.parametrize("name", ["", "logit", "layers.output", "layers.-1.output", "layers.01.output", "layers.1.x.y"])
def test_other_names_are_no_probes(name):
    assert parse_probe_name(name) is None


def test_kind_is_the_name_without_its_layer():
    assert parse_probe_name("layers.31.router_logits").kind == "router_logits"
    assert parse_probe_name("logits").kind == "logits"
