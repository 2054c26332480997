import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from gptoss_train.checkpoints import Checkpoints
from gptoss_train.cli import main
from gptoss_train.evaluation import Evaluation
from gptoss_train.going_home import open_run
from gptoss_train.loop import train
from gptoss_train.reading import config_as_yaml
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


@pytest.mark.parametrize(("kind", "command"), [("full_run", "export"), ("lora_run", "merge")])
def test_numbers_that_are_none_go_home_with_a_warning_that_names_them(kind, command, request, tmp_path):
    run = request.getfixturevalue(kind)
    name = {"export": "lm_head.weight", "merge": "model.layers.every.self_attn.q_proj.lora.a"}[command]
    parameters = {**run.state.parameters, name: run.state.parameters[name].at[0, 0].set(jnp.nan)}
    state = dataclasses.replace(jax.tree.map(jnp.copy, run.state), parameters=parameters)
    config = dataclasses.replace(run.config, output=str(tmp_path))
    checkpoints = Checkpoints(run_folder(config), config.checkpoint)
    geometry = run.geometry.numbers()
    checkpoints.save(state, {}, {"method": run.method, "config": config_as_yaml(config), "geometry": geometry})
    checkpoints.close()
    result = CliRunner().invoke(main, [command, run_folder(config), str(tmp_path / "home"), "--format", "hf-bf16"])
    assert result.exit_code == 0, result.output
    assert result.stderr == f"warning: the run has trained parameters to what is no finite number: {name}\n"
