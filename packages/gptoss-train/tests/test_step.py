import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_train.batch import Batch
from gptoss_train.nonfinite import origin_of
from gptoss_train.placing import place_batch


def fresh(run):
    """The run's first state, whose memory a step may take."""
    return jax.tree.map(jnp.copy, run.state)


def parts(batch: Batch, count: int) -> Batch:
    return Batch(*(array.reshape(count, -1, array.shape[-1]) for array in batch))


@pytest.fixture(scope="module")
def one_step(full_run, make_batch):
    return full_run.step(fresh(full_run), full_run.frozen, parts(make_batch(), 1))


@pytest.mark.numbers
def test_accumulated_parts_are_one_step(full_run, make_batch, one_step, relative_error):
    """But for the load-balance loss, a product of means over parts: without it to rounding, with it nearly."""
    state, report = full_run.step(fresh(full_run), full_run.frozen, parts(make_batch(), 4))
    expected, whole = one_step
    assert float(report.loss) == pytest.approx(float(whole.loss), rel=1e-6)
    assert int(report.tokens) == int(whole.tokens) == 13 + 7 + 24 + 5 + 11 + 8 + 15
    assert int(report.targets) == int((make_batch().weights > 0).sum())
    for name, value in expected.parameters.items():
        assert relative_error(state.parameters[name], value) < 1e-3, name


@pytest.mark.numbers
def test_routers_losses_of_accumulated_parts_count_by_their_tokens(full_run, make_batch):
    """Of four parts one has half a row, and two nothing, as at the end of an epoch."""
    batch = Batch(*map(np.copy, make_batch()))
    for array in batch:
        array[1, 12:] = 0
        array[2:] = 0
    _, report = full_run.step(fresh(full_run), full_run.frozen, parts(batch, 4))
    _, whole = full_run.step(fresh(full_run), full_run.frozen, parts(batch, 1))
    tokens = (batch.segments > 0).sum(axis=1)
    alone = []
    for row in range(2):
        single = Batch(*(np.where(np.arange(4)[:, None] == row, array, 0).astype(array.dtype) for array in batch))
        alone.append(full_run.step(fresh(full_run), full_run.frozen, parts(single, 1))[1])
    balance = sum(float(one.load_balance) * count for one, count in zip(alone, tokens[:2], strict=True)) / tokens.sum()
    assert float(report.load_balance) == pytest.approx(balance, rel=1e-5)
    assert float(report.z) == pytest.approx(float(whole.z), rel=1e-5)
    np.testing.assert_allclose(report.expert_load, whole.expert_load, rtol=1e-5, atol=1e-6)
    expected = whole.loss + 0.02 * report.load_balance + 0.003 * whole.z
    assert float(report.total_loss) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.numbers
def test_documents_of_a_row_learn_as_they_would_alone(full_run, make_batch, relative_error):
    """Three documents in two rows, and each in a row of its own: the same loss and parameters."""
    packed = Batch(*map(np.copy, make_batch()))
    for array in packed:
        array[2:] = 0
    alone = Batch(*map(np.zeros_like, packed))
    target = 0
    for row in range(2):
        for segment in range(1, packed.segments[row].max() + 1):
            here = packed.segments[row] == segment
            length = here.sum()
            for ours, theirs in zip(alone, packed, strict=True):
                ours[target, :length] = theirs[row, here]
            alone.segments[target, :length] = 1
            target += 1
    state, report = full_run.step(fresh(full_run), full_run.frozen, parts(alone, 1))
    expected, whole = full_run.step(fresh(full_run), full_run.frozen, parts(packed, 1))
    assert float(report.loss) == pytest.approx(float(whole.loss), rel=1e-6)
    assert float(report.load_balance) == pytest.approx(float(whole.load_balance), rel=1e-5)
    assert float(report.z) == pytest.approx(float(whole.z), rel=1e-5)
    for name, value in expected.parameters.items():
        assert relative_error(state.parameters[name], value) < 1e-5, name


def test_norms_of_groups_make_up_the_norm_and_every_parameter_moves(full_run, one_step):
    state, report = one_step
    before = full_run.state.parameters
    assert set(report.squares.are_finite()) == set(before)
    assert all((np.asarray(value) != np.asarray(before[name])).any() for name, value in state.parameters.items())
    groups = {"embedding", "unembedding", "norms", "sinks", "attention", "router", "experts"}
    assert set(report.grad_norms) == groups
    together = np.sqrt(sum(float(norm) ** 2 for norm in report.grad_norms.values()))
    assert float(report.grad_norm) == pytest.approx(together, rel=1e-5)
    assert all(flags.all() for flags in report.squares.are_finite().values())
    assert all((sums > 0).all() for sums in report.squares.sums().values()), "a gradient in every layer"
    np.testing.assert_allclose(np.asarray(report.expert_load).sum(axis=1), 1, rtol=1e-5)


def test_step_with_a_number_that_is_none_changes_nothing_and_names_it(full_run, make_batch):
    state = fresh(full_run)
    name = "model.layers.every.self_attn.o_proj.bias"
    poisoned = dict(state.parameters)
    poisoned[name] = poisoned[name].at[1, 3].set(jnp.nan)
    before = jax.tree.map(np.asarray, (poisoned, state.optimizer))
    after, report = full_run.step(
        dataclasses.replace(state, parameters=poisoned), full_run.frozen, parts(make_batch(), 1)
    )
    assert not bool(report.is_applied)
    assert (int(after.step), int(after.skipped)) == (1, 1)
    for ours, theirs in zip(jax.tree.leaves((after.parameters, after.optimizer)), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    sentence = origin_of(report, after.parameters, full_run.frozen)
    assert sentence == "model.layers.1.self_attn.o_proj.bias holds what is no finite number"
    assert report.squares.are_finite().keys() == before[0].keys()


def test_rows_of_a_part_are_taken_across_processes(full_run, make_batch):
    """Part p has the rows p, p + A, …: each process's rows stay on its own devices."""
    run = dataclasses.replace(full_run, config=dataclasses.replace(full_run.config, gradient_accumulation=2))
    batch = make_batch()
    placed = place_batch(batch, run)
    assert placed.tokens.shape == (2, 2, batch.tokens.shape[1])
    np.testing.assert_array_equal(placed.tokens[1], batch.tokens[1::2])


def test_lora_moves_factors_routers_and_sinks_and_starts_where_the_model_is(lora_run, full_run, make_batch, one_step):
    state = fresh(lora_run)
    assert all(name.endswith((".a", ".b", ".sinks")) or ".router." in name for name in state.parameters)
    state, report = lora_run.step(state, lora_run.frozen, parts(make_batch(), 1))
    assert float(report.loss) == pytest.approx(float(one_step[1].loss), rel=1e-5)
    assert set(report.moved) == set(report.has_gradient) == set(state.parameters)
    unmoved = {name for name, flags in report.moved.items() if not np.asarray(flags).all()}
    assert not {name for name in unmoved if not name.endswith(".a")}, "b is zero, so a has no gradient yet"
    first = float(report.loss)
    for _ in range(3):
        state, report = lora_run.step(state, lora_run.frozen, parts(make_batch(), 1))
    assert all(np.asarray(flags).all() for flags in report.moved.values())
    assert float(report.loss) < first
