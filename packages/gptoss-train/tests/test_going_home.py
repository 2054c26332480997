import dataclasses
import re

import numpy as np
import pytest
from gptoss_train.evaluation import Evaluation
from gptoss_train.going_home import open_run
from gptoss_train.loop import train
from gptoss_train.run_places import run_folder
from gptoss_train.setup import set_up
from gptoss_weights import quantized, save_checkpoint, tensor_specs


@pytest.mark.slow
@pytest.mark.parametrize("is_aware", [True, False])
def test_loss_of_training_that_knows_of_packing_is_that_of_its_export(
    is_aware, make_config, make_batch, make_batches, checkpoint_folder, full_run, tmp_path
):
    """Only experts are trained, so that nothing but MXFP4 rounds; unaware of it, the two losses differ."""
    others = tuple(name for name, spec in tensor_specs(full_run.geometry).items() if not spec.is_expert_matrix)
    frozen = tuple(sorted({re.sub(r"\.\d+\.", ".*.", name) for name in others}))
    plain = make_config(frozen=frozen, steps=3)
    aware = dataclasses.replace(plain, run=dataclasses.replace(plain.run, quantization_aware=is_aware))
    run = set_up(aware, "finetune")
    outcome = train(run, make_batches())

    def held_out(run, parameters):
        return Evaluation(run, lambda: [make_batch(99), make_batch(98)]).loss(parameters, run)

    trained = held_out(run, outcome.state.parameters)
    assert trained != pytest.approx(held_out(full_run, full_run.state.parameters), rel=1e-4), "it has learnt"
    save_checkpoint(quantized(open_run(run_folder(aware)).checkpoint()), tmp_path / "home", format="hf")
    home = set_up(dataclasses.replace(plain, model=str(tmp_path / "home"), frozen=()), "finetune", learns=False)
    assert not [leaf for leaf in home.state.optimizer if np.size(leaf)], "evaluating needs no moments"
    exported = held_out(home, home.state.parameters)
    if is_aware:
        assert exported == pytest.approx(trained, rel=1e-6)
    else:
        assert exported != pytest.approx(trained, rel=1e-5)
