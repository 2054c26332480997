import dataclasses
import json
import math
import os
import re
import signal
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from gptoss_train.audit import Audit
from gptoss_train.checkpoints import Checkpoints
from gptoss_train.config import CheckpointConfig, EvaluationConfig
from gptoss_train.data import DataConfig, SyntheticConfig, open_dataset
from gptoss_train.errors import TrainingError
from gptoss_train.evaluation import Evaluation
from gptoss_train.going_home import open_run
from gptoss_train.loop import train
from gptoss_train.metrics import read_metrics
from gptoss_train.report import write_report
from gptoss_train.run_places import local_folder, run_folder
from gptoss_weights import (
    CheckpointError,
    GptOssWarning,
    Mxfp4Tensor,
    NotEnoughSpaceError,
    open_checkpoint,
    quantized,
    save_checkpoint,
)


def fresh(run, **changes):
    """The run with another config and its first state once more, sharing what is compiled."""
    config = dataclasses.replace(run.config, **changes)
    return dataclasses.replace(run, config=config, state=jax.tree.map(jnp.copy, run.state))


@pytest.fixture(scope="module")
def whole(full_run, make_batches, tmp_path_factory):
    """A run that nothing stops, and its config."""
    run = fresh(full_run, output=str(tmp_path_factory.mktemp("whole")))
    outcome = train(run, make_batches())
    return run, outcome


def losses(run) -> list[float]:
    return [line["loss"] for line in read_metrics(local_folder(run.config) / "metrics.jsonl")]


def test_metrics_have_a_line_a_step(whole):
    run, outcome = whole
    lines = read_metrics(local_folder(run.config) / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 7))
    assert lines[-1]["loss"] == outcome.last_loss
    assert lines[0]["learning_rate"] == pytest.approx(1.5e-3)
    for line in lines:
        assert line["tokens_per_second"] > 0 < line["memory_bytes"]
        assert np.shape(line["expert_load"]) == (2, 6)
        assert line["load_balance_loss"] > 0 < line["router_z_loss"]
        assert {"attention", "experts", "router", "norms"} <= set(line["grad_norms"])


def test_run_that_is_stopped_and_goes_on_is_the_run_that_was_not(full_run, whole, make_batches, tmp_path):
    """By SIGTERM while it waits for data, and by dying between two saves."""
    run = fresh(full_run, output=str(tmp_path))

    class Stopping(type(make_batches())):
        def __next__(self):
            batch = super().__next__()
            if self.position == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return batch

    batches = make_batches()
    batches.__class__ = Stopping
    stopped = train(run, batches)
    assert stopped.signal == signal.SIGTERM
    assert int(stopped.state.step) == 2

    class DyingError(BaseException):
        pass

    class Dying(type(make_batches())):
        def __next__(self):
            if self.position == 5:
                raise DyingError
            return super().__next__()

    batches = make_batches()
    batches.__class__ = Dying
    with pytest.raises(DyingError):
        train(fresh(full_run, output=str(tmp_path)), batches)
    assert len(losses(run)) == 5  # the last save was after step 4
    ended = train(fresh(full_run, output=str(tmp_path)), make_batches())
    assert ended.first_step == 4
    expected, outcome = whole
    assert losses(run) == losses(expected)
    for ours, theirs in zip(jax.tree.leaves(ended.state), jax.tree.leaves(outcome.state), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    events = [json.loads(line) for line in (local_folder(run.config) / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events] == [0, 2, 4]
    page = write_report(local_folder(run.config), title="a <run>")
    assert page is not None
    text = page.read_text()
    assert "a &lt;run&gt;" in text
    assert "2, 4" in text
    assert text.count("<img") == 5


@pytest.mark.parametrize("overlong", ["cut", "drop"])
def test_samples_that_are_not_learnt_whole_are_counted_and_said_once(full_run, tmp_path, overlong):
    """By a run that goes on as by one that was never stopped."""
    walks = SyntheticConfig(records=50, shortest=2, longest=40, symbols=9)
    config = DataConfig(synthetic=walks, overlong=overlong, packing_window=8)

    def batches():
        options = {"batch_size": full_run.config.batch_size, "sequence_length": full_run.config.sequence_length}
        return iter(open_dataset(config, vocabulary_size=9, tokenizer=None, seed=1, **options))

    class Stopping:
        def __init__(self, batches):
            self._batches, self._given = batches, 0

        def __next__(self):
            self._given += 1
            if self._given == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return next(self._batches)

        def __getattr__(self, name):
            return getattr(self._batches, name)

    ended, went_on = (fresh(full_run, output=str(tmp_path / name)) for name in ("ended", "went on"))
    said, said_again = [], []
    outcome = train(ended, batches(), say=said.append)
    assert int(train(went_on, Stopping(batches()), say=said_again.append).state.step) == 2
    went_on = fresh(full_run, output=went_on.config.output)
    assert train(went_on, batches(), say=said_again.append).statistics == outcome.statistics
    lines, others = (read_metrics(local_folder(run.config) / "metrics.jsonl") for run in (ended, went_on))
    counts = [{key: line[key] for key in line if key.startswith("samples") or key == "loss"} for line in lines]
    assert counts == [{key: line[key] for key in counts[0]} for line in others]
    found = outcome.statistics
    many = {"samples": found.samples, "samples_cut": found.cut, "samples_dropped": found.dropped}
    assert counts[-1] == {"loss": outcome.last_loss, **many, "samples_without_loss": 0}
    assert (found.cut > 0, found.dropped > 0) == (overlong == "cut", overlong == "drop")
    for sentences in (said, said_again):
        (whole,) = [sentence for sentence in sentences if "not every sample is learnt whole: so far" in sentence]
        assert " 0 with nothing to learn; see `gptoss-train preview`" in whole
    page = write_report(local_folder(ended.config), title="a run")
    assert f"{found.samples}; {found.losses()}" in page.read_text()


@pytest.mark.parametrize("overlong", ["cut", "drop"])
def test_held_out_samples_that_are_not_measured_whole_are_counted_and_said_once(
    full_run, make_batches, tmp_path, overlong
):
    walks = SyntheticConfig(records=20, shortest=2, longest=40, symbols=9)
    data = DataConfig(synthetic=walks, overlong=overlong).for_evaluation()
    options = {"batch_size": full_run.config.batch_size, "sequence_length": full_run.config.sequence_length}
    held_out = open_dataset(data, vocabulary_size=9, tokenizer=None, seed=1, **options)
    run = fresh(
        full_run,
        output=str(tmp_path),
        checkpoint=CheckpointConfig(mode="off"),
        evaluation=EvaluationConfig(data=data, every=3),
    )
    said = []
    outcome = train(run, make_batches(), evaluation=Evaluation(run, lambda: held_out), say=said.append)
    found = outcome.held_out
    assert found.records == 20, "each once, in each of two evaluations"
    assert (found.cut > 0, found.dropped > 0) == (overlong == "cut", overlong == "drop")
    (whole,) = [sentence for sentence in said if "not every held-out sample is measured whole" in sentence]
    assert f": {found.losses()}; see evaluation.data.overlong" in whole
    counts = {"samples": found.samples, "samples_cut": found.cut, "samples_dropped": found.dropped}
    expected = {f"evaluation_{key}": count for key, count in (counts | {"samples_without_loss": 0}).items()}
    lines = read_metrics(local_folder(run.config) / "metrics.jsonl")
    noted = [{key: line[key] for key in line if key.startswith("evaluation_samples")} for line in lines]
    assert noted == [{}, {}, expected, {}, {}, expected]
    page = write_report(local_folder(run.config), title="a run")
    assert f"<th>held-out samples</th><td>{found.samples}; {found.losses()}</td>" in page.read_text()


def test_batches_that_count_nothing_are_learnt_from_all_the_same(whole):
    run, outcome = whole
    assert outcome.statistics is None
    assert "samples" not in read_metrics(local_folder(run.config) / "metrics.jsonl")[-1]
    assert "not counted" in write_report(local_folder(run.config), title="a run").read_text()


def test_run_that_is_done_does_nothing_more(full_run, whole, make_batches):
    events = local_folder(whole[0].config) / "events.jsonl"
    noted = events.read_bytes()
    outcome = train(fresh(full_run, output=whole[0].config.output), make_batches())
    assert (outcome.first_step, outcome.last_loss) == (6, None)
    assert events.read_bytes() == noted, "it has not gone on"


def test_run_that_goes_on_with_another_config_warns_of_what_is_other(full_run, whole, make_batches):
    """But not of what changes nothing, such as the threads that read."""
    threads = dataclasses.replace(full_run.config.data, threads=5)
    run = fresh(full_run, output=whole[0].config.output, seed=7, steps=6, data=threads)
    with pytest.warns(GptOssWarning, match=r"goes on with another config, so not as it would have: seed was 0, is 7$"):
        train(run, make_batches())


def test_batches_that_only_know_where_they_are_are_learnt_from_before_a_signal_counts(full_run, make_batches, tmp_path):
    class Plain:
        def __init__(self, batches):
            self._batches = batches
            self.get_state, self.set_state = batches.get_state, batches.set_state

        def __next__(self):
            batch = next(self._batches)
            if self._batches.position == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return batch

    said = []
    stopped = train(fresh(full_run, output=str(tmp_path)), Plain(make_batches()), say=said.append)
    assert int(stopped.state.step) == 2
    assert said[-1] == "stopped by SIGTERM after step 2, saved"


def test_older_checkpoints_go_and_chosen_ones_stay(full_run, make_batches, tmp_path):
    keeping = CheckpointConfig(mode="async", every=1, keep_last=1, keep_every=3)
    run = fresh(full_run, output=str(tmp_path), checkpoint=keeping)
    train(run, make_batches())
    kept = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit())
    assert kept == [3, 6]


def test_without_checkpoints_nothing_is_saved_and_data_may_end(full_run, make_batches, tmp_path):
    run = fresh(full_run, output=str(tmp_path), checkpoint=CheckpointConfig(mode="off"))
    said = []
    outcome = train(run, make_batches(most=2), say=said.append)
    assert outcome.is_out_of_data
    assert "data ended after 2 of 6 steps" in said[-1]
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_run_that_is_saved_is_not_begun_anew_without_saving(full_run, whole, make_batches):
    run = fresh(full_run, output=whole[0].config.output, checkpoint=CheckpointConfig(mode="off"))
    with pytest.raises(CheckpointError, match=r"saved at step 6, and with checkpoint\.mode=off .* another run_name"):
        train(run, make_batches())
    assert len(losses(run)) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "pretrain"}, "saved by another command; expected pretrain; found finetune"),
        ({"geometry": "window"}, "saved for another model; found sliding_window 11 where the config has 12"),
        ({"names": "unscanned"}, "saved with run.scan_layers=true"),
        ({"names": "fewer"}, "other parameters trained; found then / now: lm_head.weight"),
        ({"optimizer": "lion"}, "another optimizer; expected lion; found adamw"),
    ],
)
def test_checkpoint_of_another_run_is_refused_in_a_sentence(full_run, whole, make_batches, change, words):
    run = fresh(full_run, output=whole[0].config.output)
    parameters = run.state.parameters
    if "method" in change:
        run = dataclasses.replace(run, method=change["method"])
    elif "geometry" in change:
        other = dataclasses.replace(run.base.config, sliding_window=12)
        run = dataclasses.replace(run, base=types.SimpleNamespace(config=other))
    elif "optimizer" in change:
        optimizer = dataclasses.replace(run.config.optimizer, name=change["optimizer"])
        run = dataclasses.replace(run, config=dataclasses.replace(run.config, optimizer=optimizer))
    else:
        kept = (
            {name.replace("every", "0"): value for name, value in parameters.items()}
            if change["names"] == "unscanned"
            else {name: value for name, value in parameters.items() if name != "lm_head.weight"}
        )
        run = dataclasses.replace(run, state=dataclasses.replace(run.state, parameters=kept))
    with pytest.raises(CheckpointError, match=re.escape(words)):
        train(run, make_batches())


def test_change_that_only_rounds_is_called_that(full_run, whole, make_batches):
    strategy = dataclasses.replace(full_run.config.run, moe="dense")
    run = fresh(full_run, output=whole[0].config.output)
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, run=strategy))
    with pytest.warns(GptOssWarning, match=r"no more than rounding: run\.moe was 'auto', is 'dense'$"):
        train(run, make_batches())


def test_full_disk_is_a_sentence_and_the_run_goes_on_later(full_run, whole, make_batches, tmp_path, monkeypatch):
    """TensorStore says in a ValueError what the file system said."""
    run = fresh(full_run, output=str(tmp_path))
    save = ocp.CheckpointManager.save

    def full_after_two(manager, step, *args, **options):
        if step > 2:
            raise ValueError("RESOURCE_EXHAUSTED: Failed to write 9 bytes: No space left [os_error_code='28']")
        return save(manager, step, *args, **options)

    monkeypatch.setattr(ocp.CheckpointManager, "save", full_after_two)
    with pytest.raises(NotEnoughSpaceError, match="the disk is full"):
        train(run, make_batches())
    monkeypatch.undo()
    assert train(fresh(full_run, output=str(tmp_path)), make_batches()).first_step == 2
    assert losses(run) == losses(whole[0])


def test_of_what_nobody_can_catch_only_the_echo_of_a_failed_save_is_kept_quiet(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: said.append(str(unraisable.exc_value)))
    Checkpoints(str(tmp_path), CheckpointConfig()).close()
    for words in ("Event loop is closed", "something else"):
        sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(words)))
    assert said == ["something else"]


def test_held_out_loss_that_is_no_number_is_null(full_run, make_batches, tmp_path):
    run = fresh(full_run, output=str(tmp_path), checkpoint=CheckpointConfig(mode="off"))
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, evaluation=EvaluationConfig(every=2)))
    held_out = types.SimpleNamespace(loss=lambda parameters, run: math.inf)
    outcome = train(run, make_batches(), evaluation=held_out)
    assert outcome.evaluation == math.inf
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line.get("evaluation_loss", "-") for line in lines] == ["-", None, "-", None, "-", None]


def test_bad_number_stops_the_run_or_is_left_out(full_run, make_batch, make_batches, tmp_path):
    def poisoned(number):
        batch = make_batch(number)
        return batch._replace(weights=np.full_like(batch.weights, np.nan)) if number == 2 else batch

    changes = {"output": str(tmp_path), "checkpoint": CheckpointConfig(mode="off")}
    run = fresh(full_run, **changes)
    with pytest.raises(TrainingError, match=r"gradient of model\.embed_tokens\.weight, is no finite number in step 2"):
        train(run, make_batches(make=poisoned))
    assert [line["loss"] is None for line in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [False, True]
    skipping = dataclasses.replace(run.config.optimizer, nonfinite="skip")
    said = []
    outcome = train(fresh(full_run, **changes, optimizer=skipping), make_batches(make=poisoned), say=said.append)
    assert int(outcome.state.skipped) == 1
    assert "step 2 left out" in said[0]
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["skipped_steps"] for line in lines] == [0, 1, 1, 1, 1, 1]
    assert lines[1]["loss"] is None


def test_run_that_a_bad_number_stops_is_saved_as_it_was_before(full_run, make_batch, make_batches, tmp_path):
    def poisoned(number):
        batch = make_batch(number)
        return batch._replace(weights=np.full_like(batch.weights, np.nan)) if number == 3 else batch

    run = fresh(full_run, output=str(tmp_path))
    with pytest.raises(TrainingError, match="in step 3"):
        train(run, make_batches(make=poisoned))
    ended = train(fresh(full_run, output=str(tmp_path)), make_batches(make=poisoned))
    assert ended.first_step == 3
    assert int(ended.state.skipped) == 1
    assert len(losses(run)) == 6


@pytest.mark.parametrize("format_name", ["hf", "openai"])
def test_run_goes_home_in_a_published_format(whole, tmp_path, format_name, relative_error):
    run, outcome = whole
    finished = open_run(run_folder(run.config))
    assert finished.step == 6
    packed = quantized(finished.checkpoint())
    save_checkpoint(packed, tmp_path / "home", format=format_name, dtype="bfloat16")
    home = open_checkpoint(tmp_path / "home")
    trained = np.asarray(outcome.state.parameters["model.layers.every.self_attn.q_proj.weight"])[1]
    assert relative_error(home.read("model.layers.1.self_attn.q_proj.weight"), trained) < 4e-3
    assert isinstance(home.read("model.layers.1.mlp.experts.down_proj"), Mxfp4Tensor)
    errors = packed.errors
    assert set(errors) == {name for name, spec in home.specs.items() if spec.is_expert_matrix}
    assert all(0.001 < error.relative_l2 < 0.2 for error in errors.values())


def test_lora_is_audited_and_merges(lora_run, checkpoint_folder, make_batches, tmp_path, relative_error):
    run = fresh(lora_run, output=str(tmp_path))
    outcome = train(run, make_batches())
    assert outcome.audit is not None
    # 6 targets of 2 factors, a router of 2, and sinks, in each of 2 layers.
    assert outcome.audit.trained == 2 * (6 * 2 + 2 + 1)
    # Two norms, four projections with biases, and the experts' two matrices with biases; embeddings, and a last norm.
    assert outcome.audit.frozen == 2 * (2 + 4 * 2 + 2 * 2) + 3
    assert outcome.audit.sentence() == (
        "audit: 30 trained parameters (lora 24, router 4, sinks 2) moved, 31 frozen ones did not"
    )
    finished = open_run(run_folder(run.config))
    merged, base = finished.checkpoint(), open_checkpoint(checkpoint_folder)
    q, experts = "model.layers.1.self_attn.q_proj.weight", "model.layers.0.mlp.experts.gate_up_proj"
    factors = {
        key: np.asarray(outcome.state.parameters[f"model.layers.every.self_attn.q_proj.lora.{key}"])[1] for key in "ab"
    }
    expected = np.asarray(base.read(q), np.float32) + 6.0 / 3 * factors["b"] @ factors["a"]
    np.testing.assert_allclose(merged.read(q), expected, rtol=1e-6, atol=1e-7)
    whole = merged.read(experts)
    assert relative_error(whole, base.read(experts).decode(np.float32)) > 1e-4
    for index in [
        (2,),
        (slice(1, 3),),
        (2, 5),
        (slice(None), slice(3, 9)),
        (1, slice(None), 7),
        (0, 4, slice(32, 64)),
        (1, 2, 3),
    ]:
        np.testing.assert_allclose(merged.read(experts, index), whole[index], rtol=1e-6, atol=1e-7)
    assert (
        np.asarray(merged.read("model.norm.weight")).tobytes() == np.asarray(base.read("model.norm.weight")).tobytes()
    )


def test_audit_says_nothing_of_a_run_that_is_too_short_for_it(lora_run, make_batches, tmp_path):
    said = []
    optimizer = dataclasses.replace(lora_run.config.optimizer, warmup_steps=0)
    run = fresh(lora_run, output=str(tmp_path), steps=1, optimizer=optimizer)
    outcome = train(run, make_batches(), say=said.append)
    assert outcome.audit is None
    assert "no audit: of the steps only 1 counted" in said[0]


def test_audit_names_what_stands_still_and_what_should_have(lora_run, make_batch):
    audit = Audit(lora_run.frozen)
    state = jax.tree.map(jnp.copy, lora_run.state)
    _, report = lora_run.step(state, lora_run.frozen, jax.tree.map(lambda array: array[None], make_batch()))
    audit.watch(report)
    with pytest.raises(TrainingError, match=r"without a gradient: model\.layers\.0\..*lora.a"):
        audit.result(lora_run.frozen).require()
    name = "model.layers.every.mlp.experts.down_proj_bias"
    changed = {**lora_run.frozen, name: lora_run.frozen[name].at[0, 0, 0].add(1e-3)}
    assert audit.result(changed).changed == [name]
