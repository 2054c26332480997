"""Which rows are shared among processes: those that are on the mesh at a time, when learning and when evaluating."""

import dataclasses

import pytest
from gptoss_train import setup
from gptoss_train.config import EvaluationConfig
from gptoss_train.data import DataConfig, SyntheticConfig
from gptoss_train.errors import ConfigError
from gptoss_train.rows_on_mesh import RowShare

DATA = DataConfig(source="synthetic", synthetic=SyntheticConfig(records=30, shortest=3, longest=12), packing="none")


def test_each_share_is_of_the_rows_that_are_on_the_mesh_at_a_time(full_run, monkeypatch):
    """Of eight rows four are learnt from at a time, and shared by four; all are evaluated, and shared by eight."""
    config = dataclasses.replace(full_run.config, batch_size=8, gradient_accumulation=2)
    run = dataclasses.replace(full_run, config=config)
    alone = next(iter(setup.open_held_out(run, DATA)))
    monkeypatch.setattr(setup, "row_share", lambda rows, _mesh: RowShare(index=1, count=rows))
    assert len(next(iter(setup.open_data(run, DATA))).tokens) == 2
    [row] = next(iter(setup.open_held_out(run, DATA))).tokens
    assert (row == alone.tokens[1]).all()


def test_held_out_data_are_gone_through_once(full_run):
    endless = dataclasses.replace(DATA, epochs=None)
    rows = full_run.config.batch_size
    assert len(list(setup.open_held_out(full_run, endless))) == -(-30 // rows)


@pytest.mark.parametrize(
    ("refused", "learns", "evaluation"),
    [(2, True, None), (4, False, None), (4, True, DATA)],
)
def test_rows_that_cannot_be_shared_are_refused_before_anything_is_loaded(
    make_config, monkeypatch, refused, learns, evaluation
):
    def row_share(rows, _mesh):
        if rows == refused:
            raise ConfigError("not to be shared")
        return RowShare()

    monkeypatch.setattr(setup, "row_share", row_share)
    monkeypatch.setattr(setup, "load_run_model", lambda *_: pytest.fail("it is loaded"))
    config = make_config(gradient_accumulation=2, evaluation=EvaluationConfig(data=evaluation))
    with pytest.raises(ConfigError, match="not to be shared"):
        setup.set_up(config, "finetune", learns=learns)
