"""Our way of loading weights into the official model changes nothing: it equals the official loader."""

import json

import numpy as np
import pytest
from gptoss_weights import GptOssWarning, open_checkpoint
from gptoss_weights.testing import write_tiny_checkpoint

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("max_shard_bytes", [None, 60_000])
def test_loader_equals_the_official_one_bit_for_bit(official, make_prompt, tmp_path, max_shard_bytes):
    import torch
    from gpt_oss.torch.model import Transformer

    folder = write_tiny_checkpoint(tmp_path / "tiny", format="openai", seed=5, max_shard_bytes=max_shard_bytes)
    checkpoint = open_checkpoint(folder)
    prompt = make_prompt(checkpoint.config, 30)
    model = Transformer.from_checkpoint(str(folder), device="cpu")
    with torch.inference_mode():
        expected = model(torch.as_tensor(prompt)).float().numpy()
    np.testing.assert_array_equal(official.record(checkpoint, prompt, dtype="bfloat16")["logits"], expected)


def test_keys_that_a_config_only_carries_do_not_reach_the_official_code(official, tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "tiny", format="openai", num_hidden_layers=1)
    document = json.loads((folder / "config.json").read_text()) | {"made_by": "someone"}
    (folder / "config.json").write_text(json.dumps(document))
    with pytest.warns(GptOssWarning, match="made_by"):
        checkpoint = open_checkpoint(folder)
    assert len(official.record(checkpoint, [1, 2, 3])) > 0


def test_recorded_routing_is_what_the_model_used(official, make_prompt, tmp_path):
    """The experts and weights that the official MLP computes, caught while it computes them."""
    import torch
    from gptoss_parity.sources.openai_torch import load_official_model

    checkpoint = open_checkpoint(write_tiny_checkpoint(tmp_path / "tiny", format="hf"))
    prompt = make_prompt(checkpoint.config, 20)
    caught: list[tuple[np.ndarray, np.ndarray]] = []

    class CatchTopK(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if function is torch.topk:
                caught.append((result.indices.numpy(), torch.softmax(result.values, dim=1).numpy()))
            return result

    model = load_official_model(checkpoint, dtype="float32")
    with torch.inference_mode(), CatchTopK():
        model(torch.as_tensor(prompt))
    trace = official.record(checkpoint, prompt)
    assert len(caught) == checkpoint.config.num_hidden_layers
    for layer, (indices, weights) in enumerate(caught):
        np.testing.assert_array_equal(trace[f"layers.{layer}.router_indices"], indices)
        np.testing.assert_array_equal(trace[f"layers.{layer}.router_weights"], weights)


def test_both_layouts_give_the_same_trace_bit_for_bit(official, make_prompt, tmp_path):
    traces = []
    for layout in ("openai", "hf"):
        folder = write_tiny_checkpoint(tmp_path / layout, format=layout, seed=3, max_shard_bytes=70_000)
        checkpoint = open_checkpoint(folder)
        traces.append(official.record(checkpoint, make_prompt(checkpoint.config, 25)))
    assert traces[0].metadata.checkpoint_digest == traces[1].metadata.checkpoint_digest
    for name in traces[0]:
        np.testing.assert_array_equal(traces[0][name], traces[1][name])
