"""Every probe has one name and one shape."""

import pytest
from gptoss_weights import BLOCK_DEBUG_PROBES, LAYER_PROBES, layer_probe, probe_specs
from gptoss_weights.testing import tiny_config


def test_all_probes_of_a_prompt_in_the_order_of_the_forward_pass() -> None:
    specs = probe_specs(tiny_config(num_hidden_layers=2), 13)
    assert list(specs)[:3] == ["tokens", "embedding", "layers.0.attention_residual"]
    assert list(specs)[-3:] == ["layers.1.output", "final_norm", "logits"]
    assert len(specs) == 4 + 2 * (len(LAYER_PROBES) - len(BLOCK_DEBUG_PROBES))
    assert specs["layers.1.router_indices"].shape == (13, 3)
    assert specs["layers.1.router_indices"].is_integer
    assert specs["layers.1.router_logits"].shape == (13, 7)
    assert not specs["layers.1.router_logits"].is_integer
    assert specs["logits"].shape == (13, 211)
    assert specs["layers.1.output"].layer == 1


def test_block_debug_probes_join_the_core_probes_where_they_are_asked_for() -> None:
    config = tiny_config(num_hidden_layers=2)
    core, all_ = probe_specs(config, 13), probe_specs(config, 13, block_debug=True)
    assert [name for name in all_ if name in core] == list(core)
    assert {name.rpartition(".")[2] for name in all_ if name not in core} == BLOCK_DEBUG_PROBES
    assert all_["layers.1.key"].shape == (13, config.num_key_value_heads, config.head_dim)
    assert all_["layers.0.pre_activation"].shape == (13, 3, 2 * config.intermediate_size)


def test_unknown_probe_is_refused() -> None:
    with pytest.raises(ValueError, match="no layer probe is called 'attention'; there are attention_norm"):
        layer_probe(0, "attention")
