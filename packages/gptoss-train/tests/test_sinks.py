import importlib.util
import re
import struct
import sys
import types

import pytest
from gptoss_train.config import LogConfig
from gptoss_train.errors import ConfigError
from gptoss_train.sinks import open_sinks, scalars
from gptoss_weights import MissingDependencyError, NetworkError

LINE = {"step": 7, "loss": 2.5, "grad_norms": {"experts": 0.25, "norms": None}, "expert_load": [[0.75, 0.25]]}
needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboardX") is None, reason="needs the extra `tensorboard` (session extras)"
)


def test_scalars_are_named_by_group_and_what_is_no_number_is_left_out():
    assert dict(scalars(LINE)) == {"loss": 2.5, "grad_norms/experts": 0.25, "expert_load_max/layer_0": 0.75}


@pytest.mark.parametrize(
    ("log", "library"),
    [(LogConfig(tensorboard=True), "tensorboardX"), (LogConfig(wandb_project="mine"), "wandb")],
)
def test_without_the_library_the_error_says_how_to_install_it(log, library, make_config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=library):
        open_sinks(make_config(log=log), tmp_path)


class FakeWandb(types.ModuleType):
    """Weights & Biases as far as it is used, with its classes of errors; remembers how runs were begun."""

    def __init__(self):
        super().__init__("wandb")
        error = type("Error", (Exception,), {})
        communication = type("CommError", (error,), {})
        self.errors = types.SimpleNamespace(
            Error=error,
            CommError=communication,
            AuthenticationError=type("AuthenticationError", (communication,), {}),
            UsageError=type("UsageError", (error,), {}),
        )
        self.begun, self.failure = [], None

    def init(self, **options):
        self.begun.append(options)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def fake_wandb(monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return wandb


@pytest.mark.parametrize(
    ("kind", "expected", "words"),
    [
        ("UsageError", ConfigError, r"refuses the run \(some words\)\. Log in with `wandb login`"),
        ("AuthenticationError", ConfigError, "refuses the run"),
        ("CommError", NetworkError, r"does not answer \(some words\)"),
    ],
)
def test_what_weights_and_biases_has_against_a_run_is_a_sentence(
    kind, expected, words, make_config, tmp_path, fake_wandb
):
    fake_wandb.failure = getattr(fake_wandb.errors, kind)("some words")
    with pytest.raises(expected, match=f"^log.wandb_project: .*{words}"):
        open_sinks(make_config(log=LogConfig(wandb_project="mine")), tmp_path)


def test_each_folder_is_a_run_of_its_own_to_weights_and_biases_and_goes_on_as_that(make_config, tmp_path, fake_wandb):
    log = LogConfig(wandb_project="mine")
    for output, name in (("a", "x:y z?"), ("a", "x:y z?"), ("b", "x:y z?"), ("a", "other" * 40)):
        open_sinks(make_config(log=log, output=str(tmp_path / output), run_name=name), tmp_path)
    first, again, elsewhere, long = (options["id"] for options in fake_wandb.begun)
    assert re.fullmatch(r"x-y-z--[0-9a-f]{8}", first)
    assert first == again != elsewhere
    assert len(long) <= 128
    assert fake_wandb.begun[0]["name"] == "x:y z?"


@needs_tensorboard
def test_tensorboard_forgets_the_steps_that_are_done_again(make_config, tmp_path):
    [sink] = open_sinks(make_config(log=LogConfig(tensorboard=True)), tmp_path, after_step=4)
    sink.close()
    [path] = (tmp_path / "tensorboard").iterdir()
    starts = [event.step for event in tensorboard_events(path) if event.HasField("session_log")]
    assert starts == [5]


@needs_tensorboard
def test_tensorboard_reads_what_was_written(make_config, tmp_path):
    [sink] = open_sinks(make_config(log=LogConfig(tensorboard=True)), tmp_path)
    sink.write(LINE)
    sink.close()
    [path] = (tmp_path / "tensorboard").iterdir()
    found = {
        value.tag: (event.step, value.simple_value)
        for event in tensorboard_events(path)
        for value in event.summary.value
    }
    assert found == {name: (7, pytest.approx(value)) for name, value in scalars(LINE)}


def tensorboard_events(path):
    from tensorboardX.proto.event_pb2 import Event

    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])  # then its checksum, the event, and the event's checksum
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found
