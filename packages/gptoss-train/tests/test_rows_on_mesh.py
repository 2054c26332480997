"""Several processes share the rows of a step, each its own; here a process is some of the devices of one."""

import jax
import pytest
from gptoss_model import make_mesh
from gptoss_train.errors import ConfigError
from gptoss_train.rows_on_mesh import check_processes


@pytest.mark.parametrize(
    ("mesh", "devices_each", "rows"),
    [
        ("data=2", 1, 4),
        ("fsdp=2", 1, 4),
        ("expert=2", 1, 2),
        ("data=2,tensor=2", 2, 4),
        ("fsdp=4,tensor=2", 2, 8),
        ("fsdp=2,expert=2,tensor=2", 4, 4),
        ("tensor=2", 2, 3),
    ],
)
def test_processes_that_read_other_rows_are_fine(mesh, devices_each, rows):
    check_processes(rows, make_mesh(mesh), process_of=lambda device: device.id // devices_each)


@pytest.mark.parametrize(
    ("mesh", "devices_each", "rows"),
    [("tensor=2", 1, 4), ("data=2,tensor=2", 1, 4), ("fsdp=2", 1, 3), ("fsdp=3,expert=2", 3, 2)],
)
def test_processes_that_need_the_same_row_are_refused_with_the_reason(mesh, devices_each, rows):
    assert jax.device_count() == 8
    words = rf"^run\.mesh: each process reads its own rows.* multiple of the \d processes.*found {mesh}\. Such as data="
    with pytest.raises(ConfigError, match=words):
        check_processes(rows, make_mesh(mesh), process_of=lambda device: device.id // devices_each)
