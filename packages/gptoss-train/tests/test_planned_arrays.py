"""Planned bytes are those of the arrays that a run makes, on the first device of a mesh."""

import math

import jax
import numpy as np
import pytest
from gptoss_model import MeshRules, memory_per_device
from gptoss_train.adapters import Adapter, Update, merged
from gptoss_train.config import ModelConfig, load_config
from gptoss_train.errors import ConfigError
from gptoss_train.planned_arrays import plan_arrays
from gptoss_train.planning import plan_run
from gptoss_train.setup import set_up
from gptoss_weights import CheckpointError, open_checkpoint, save_checkpoint

SMALL = ["geometry.num_hidden_layers=2", "batch_size=8", "sequence_length=32", "data.synthetic.longest=20"]
SPLIT = "fsdp=2,expert=2,tensor=2"


@pytest.fixture(scope="module")
def folders(checkpoint_folder, tmp_path_factory):
    """The same checkpoint with its experts packed and not."""
    unpacked = tmp_path_factory.mktemp("unpacked") / "tiny"
    save_checkpoint(open_checkpoint(checkpoint_folder), unpacked, format="hf-bf16")
    return {"packed": checkpoint_folder, "unpacked": unpacked}


def bytes_here(tree):
    shards = [leaf.addressable_shards for leaf in jax.tree.leaves(tree)]
    return sum(shard.data.nbytes for parts in shards for shard in parts if shard.device == jax.devices()[0])


def assert_planned(plan, run):
    state = run.state
    local = [leaf.addressable_shards[0].data.shape for leaf in state.parameters.values()]
    assert plan.parameter_bytes == bytes_here((state.parameters, run.frozen))
    assert plan.gradient_bytes == 4 * sum(map(math.prod, local))
    assert plan.moment_bytes == bytes_here(state.optimizer)
    assert plan.checkpoint_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert plan.trained == sum(leaf.size for leaf in state.parameters.values())


@pytest.mark.parametrize(
    "overrides",
    [
        ["run.weight_dtype=bfloat16"],
        ["run.mesh=expert=8", "frozen=['*.experts.*']"],
        ["run.mesh=expert=8", "frozen=[model.embed_tokens.*,lm_head.*]"],
        ["run.mesh=expert=2,fsdp=4", "frozen=['*.self_attn.*','*.mlp.router.*']", "optimizer.name=lion"],
        [f"run.mesh={SPLIT}", "run.scan_layers=false", "frozen=['model.layers.0.*']"],
        ["optimizer.name=adafactor"],
        [f"run.mesh={SPLIT}", "optimizer.name=adafactor", "geometry.hidden_size=128", "geometry.vocab_size=256"],
        ["optimizer.name=sgd", "optimizer.momentum=0"],
    ],
)
def test_new_weights_are_planned_to_the_byte(overrides):
    config = load_config("tiny", [*SMALL, *overrides])
    assert_planned(plan_run(config, "pretrain"), set_up(config, "pretrain"))


@pytest.mark.parametrize(
    ("experts", "overrides"),
    [
        ("packed", ["lora.router=true", "lora.sinks=true"]),
        ("unpacked", []),
        ("unpacked", ["lora.targets=[q_proj,down_proj]", "run.dtype=bfloat16", "run.weight_dtype=bfloat16"]),
        ("packed", ["run.mesh=data=2,tensor=2"]),
        ("packed", [f"run.mesh={SPLIT}", "lora.router=true"]),
        pytest.param(
            "unpacked", [f"run.mesh={SPLIT}", "lora.sinks=true", "run.scan_layers=false"], marks=pytest.mark.slow
        ),
        pytest.param(
            "unpacked", [f"run.mesh={SPLIT}", "optimizer.name=adafactor", "lora.rank=128"], marks=pytest.mark.slow
        ),
    ],
)
def test_lora_is_planned_to_the_byte_as_the_checkpoint_holds_its_experts(folders, experts, overrides):
    changes = [f"model={folders[experts]}", "geometry={}", "batch_size=8", "lora.rank=2", *overrides]
    config = load_config("tiny", changes)
    assert_planned(plan_run(config, "lora"), set_up(config, "lora"))


@pytest.fixture(scope="module")
def half_packed(checkpoint_folder):
    """The checkpoint with one layer's matrix unpacked."""
    base = open_checkpoint(checkpoint_folder)
    name = "model.layers.0.mlp.experts.down_proj"
    experts, out, width = base.specs[name].shape
    factors = {"a": np.zeros((experts, 1, width), np.float32), "b": np.zeros((experts, out, 1), np.float32)}
    return merged(base, Adapter(updates={name: Update(scale=1.0, **factors)}, replaced={}, rank=1, alpha=1.0))


def test_experts_packed_in_part_are_planned_so(make_config, half_packed):
    run = set_up(make_config(), "lora", base=half_packed)
    arrays = plan_arrays(run.config, "lora", half_packed, MeshRules())
    assert arrays.is_packed
    assert arrays.parameter_bytes() == bytes_here((run.state.parameters, run.frozen))


def test_experts_packed_in_part_are_refused_in_one_stack(make_config, half_packed):
    config = make_config(run=ModelConfig(scan_layers=True))
    for refuse in (
        lambda: plan_arrays(config, "lora", half_packed, MeshRules()),
        lambda: set_up(config, "lora", base=half_packed),
    ):
        with pytest.raises(CheckpointError, match="the layers of one stack hold their experts in different forms"):
            refuse()


@pytest.mark.parametrize("scan_layers", ["true", "false"])
def test_what_fsdp_gathers_is_one_layer_stacked_or_not(scan_layers):
    config = load_config("tiny", [*SMALL, f"run.mesh={SPLIT}", f"run.scan_layers={scan_layers}"])
    geometry = set_up(config, "pretrain").geometry
    memory = memory_per_device(geometry, SPLIT, batch=1, length=1, dtype="float32", experts="decoded")
    assert plan_run(config, "pretrain").gathered_bytes == memory.gathered > 0


def test_layers_of_a_stack_that_are_frozen_in_part_are_refused_as_by_the_run():
    config = load_config("tiny", [*SMALL, "frozen=['model.layers.0.*']"])
    refusals = []
    for refuse in (plan_run, set_up):
        with pytest.raises(ConfigError, match="some layers of a stack are frozen and some are not") as caught:
            refuse(config, "pretrain")
        refusals.append(str(caught.value))
    assert refusals[0] == refusals[1]
