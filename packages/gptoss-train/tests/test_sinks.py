import importlib.util
import struct
import sys

import pytest
from gptoss_train.config import LogConfig
from gptoss_train.sinks import open_sinks, scalars
from gptoss_weights import MissingDependencyError

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


@needs_tensorboard
def test_tensorboard_reads_what_was_written(make_config, tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    [sink] = open_sinks(make_config(log=LogConfig(tensorboard=True)), tmp_path)
    sink.write(LINE)
    sink.close()
    [path] = (tmp_path / "tensorboard").iterdir()
    data, found = path.read_bytes(), {}
    while data:
        (length,) = struct.unpack("<Q", data[:8])  # then its checksum, the event, and the event's checksum
        event = Event.FromString(data[12 : 12 + length])
        found |= {value.tag: (event.step, value.simple_value) for value in event.summary.value}
        data = data[16 + length :]
    assert found == {name: (7, pytest.approx(value)) for name, value in scalars(LINE)}
