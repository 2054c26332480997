import pytest
from gptoss_model.probing import ProbeRecorder, check_probes
from gptoss_weights.testing import tiny_config


def test_only_wanted_probes_are_kept():
    record = ProbeRecorder({"layers.1.output"})
    record("embedding", 1)
    record.layer(1, {"output": 2, "router_logits": 3})
    record.layer(0, {"output": 4})
    assert record.values == {"layers.1.output": 2}
    assert record.within([0, 1]) == {"output"}
    assert not record.within([0, 2])


def test_equal_requests_become_equal_tuples():
    config = tiny_config()
    assert check_probes(["logits", "embedding", "logits"], config) == check_probes({"embedding", "logits"}, config)


def test_unknown_probe_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"4 layers has no probe 'layers.4.output'; did you mean 'layers.\d.output'\?"):
        check_probes(["layers.4.output"], tiny_config())


def test_one_string_is_no_collection_of_names():
    with pytest.raises(ValueError, match="not the one string 'logits'"):
        check_probes("logits", tiny_config())


def test_block_debug_probes_are_known():
    assert check_probes(["layers.3.expert_outputs"], tiny_config()) == ("layers.3.expert_outputs",)


def test_block_debug_probes_of_a_sharded_model_are_refused():
    with pytest.raises(ValueError, match=r"'layers\.0\.query' is split over the mesh"):
        check_probes(["layers.0.query", "layers.0.output"], tiny_config(), is_sharded=True)
    assert check_probes(["layers.0.output"], tiny_config(), is_sharded=True) == ("layers.0.output",)


def test_recorder_knows_whether_any_of_several_is_wanted():
    recorder = ProbeRecorder(["activated"])
    assert recorder.wants_any(["pre_activation", "activated"])
    assert not recorder.wants_any(["output"])
