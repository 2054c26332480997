"""A run on a mesh is the run on one device: losses, moments and all, and it goes on on another mesh."""

import dataclasses

import jax
import numpy as np
import pytest
from gptoss_train.checkpoints import Checkpoints
from gptoss_train.config import ModelConfig
from gptoss_train.placing import place_batch
from gptoss_train.run_places import run_folder
from gptoss_train.setup import set_up

pytestmark = pytest.mark.slow

STEPS = 4
LOSS_TOLERANCE = 5e-6  # sums over all tokens in another order, over four steps
CASES = [
    ("data=4,tensor=2", "finetune", {}),
    ("fsdp=2,expert=2,tensor=2", "finetune", {"quantization_aware": True, "remat": "full"}),
    ("fsdp=2,expert=2,tensor=2", "lora", {}),
]


@pytest.fixture(scope="module")
def losses_of(make_config, make_batch):
    def run(mesh, method, options, *, accumulation=1):
        lora = dataclasses.replace(make_config().lora, rank=3, alpha=6.0, router=True)
        config = make_config(
            run=ModelConfig(mesh=mesh, **options), lora=lora, gradient_accumulation=accumulation, batch_size=8
        )
        training = set_up(config, method)
        state, losses = training.state, []
        for step in range(STEPS):
            state, report = training.step(state, training.frozen, place_batch(make_batch(step, rows=8), training))
            losses.append(float(report.loss))
        return losses, state, training

    return run


@pytest.mark.parametrize(("mesh", "method", "options"), CASES)
def test_losses_on_a_mesh_are_those_of_one_device(losses_of, mesh, method, options):
    assert jax.device_count() == 8
    expected, *_ = losses_of(None, method, options)
    losses, state, training = losses_of(mesh, method, options)
    np.testing.assert_allclose(losses, expected, rtol=LOSS_TOLERANCE)
    assert losses[-1] != losses[0]
    for name, value in state.parameters.items():
        assert value.sharding.is_equivalent_to(training.split.sharding(name, training.mesh), value.ndim), name
    moments = [leaf for leaf in jax.tree.leaves(state.optimizer) if leaf.size > 1000]
    assert any(leaf.addressable_shards[0].data.size < leaf.size for leaf in moments), "moments are split"


def test_run_goes_on_on_another_mesh(losses_of, make_batch, make_config):
    _, state, training = losses_of("fsdp=2,expert=2,tensor=2", "finetune", {})
    checkpoints = Checkpoints(run_folder(training.config), training.config.checkpoint)
    checkpoints.save(state, {"position": 4}, {})
    checkpoints.wait()
    expected, _ = _next_loss(training, state, make_batch)
    config = dataclasses.replace(training.config, run=ModelConfig(mesh="data=2,fsdp=4"))
    other = set_up(config, "finetune")
    restored, position = checkpoints.restore(checkpoints.latest().step, other.state)
    assert position == {"position": 4}
    loss, _ = _next_loss(other, restored, make_batch)
    assert loss == pytest.approx(expected, rel=LOSS_TOLERANCE)


def _next_loss(training, state, make_batch):
    state, report = training.step(state, training.frozen, place_batch(make_batch(99, rows=8), training))
    return float(report.loss), state
