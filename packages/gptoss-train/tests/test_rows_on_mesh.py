"""Which processes read the same rows of a batch; here a process is some of the devices of one."""

import jax
import numpy as np
import pytest
from gptoss_model import MeshRules, make_mesh
from gptoss_model.sharding.shards import batch_axes
from gptoss_train.errors import ConfigError
from gptoss_train.rows_on_mesh import RowShare, row_share
from jax.sharding import NamedSharding, PartitionSpec


def shares_of(rows, mesh, process_of):
    """Index of each process's share, and how many shares there are."""
    processes = sorted({process_of(device) for device in mesh.devices.flat})
    found = [row_share(rows, mesh, process=process, process_of=process_of) for process in processes]
    [count] = {share.count for share in found}
    return [share.index for share in found], count


def rows_held(rows, mesh, process_of, process):
    axes = batch_axes(MeshRules(**dict(mesh.shape)), rows)
    places = NamedSharding(mesh, PartitionSpec(axes or None)).devices_indices_map((rows,))
    return {row for device, (part,) in places.items() if process_of(device) == process for row in range(rows)[part]}


@pytest.mark.parametrize(
    ("mesh", "devices_each", "rows", "indices"),
    [
        ("data=2", 1, 4, [0, 1]),
        ("fsdp=2", 1, 4, [0, 1]),
        ("expert=2", 1, 2, [0, 1]),
        ("data=2,tensor=2", 2, 4, [0, 1]),
        ("fsdp=4,tensor=2", 2, 8, [0, 1, 2, 3]),
        ("fsdp=2,expert=2,tensor=2", 4, 4, [0, 1]),
        ("tensor=2", 2, 3, [0]),
    ],
)
def test_processes_with_other_rows_have_each_a_share(mesh, devices_each, rows, indices):
    found = shares_of(rows, make_mesh(mesh), lambda device: device.id // devices_each)
    assert found == (indices, len(indices))


@pytest.mark.parametrize(
    ("mesh", "devices_each", "rows", "indices"),
    [
        ("tensor=2", 1, 4, [0, 0]),
        ("tensor=8", 4, 3, [0, 0]),
        ("data=2,tensor=2", 1, 4, [0, 0, 1, 1]),
        ("data=2,tensor=4", 2, 4, [0, 0, 1, 1]),
        ("fsdp=2,expert=2,tensor=2", 1, 8, [0, 0, 1, 1, 2, 2, 3, 3]),
        ("expert=2,tensor=4", 4, 1, [0, 0]),  # expert does not divide the row
        ("fsdp=2", 1, 3, [0, 0]),
        ("fsdp=4,expert=2", 2, 2, [0, 0, 0, 0]),  # expert alone divides the rows
        ("fsdp=4,expert=2", 1, 2, [0, 1, 0, 1, 0, 1, 0, 1]),
    ],
)
def test_processes_with_the_same_rows_have_the_same_share(mesh, devices_each, rows, indices):
    found = shares_of(rows, make_mesh(mesh), lambda device: device.id // devices_each)
    assert found == (indices, len(set(indices)))


def test_shares_are_in_the_order_of_the_rows_and_not_of_the_processes():
    mesh = make_mesh("data=4,tensor=2")
    numbers = [3, 3, 0, 0, 2, 2, 1, 1]
    assert shares_of(8, mesh, lambda device: numbers[device.id]) == ([1, 3, 2, 0], 4)


def test_rows_of_a_process_need_not_follow_one_another():
    mesh = make_mesh("data=4,tensor=2")
    assert shares_of(8, mesh, lambda device: device.id // 2 % 2) == ([0, 1], 2)
    assert rows_held(8, mesh, lambda device: device.id // 2 % 2, 1) == {2, 3, 6, 7}


def test_every_row_is_in_one_share_and_shares_are_equal():
    for rules in ("data=2,fsdp=2,tensor=2", "fsdp=2,tensor=4", "data=8", "tensor=8", "expert=4,tensor=2"):
        mesh = make_mesh(rules)
        for devices_each in (1, 2, 4, 8):
            held = {}
            for process in range(8 // devices_each):

                def process_of(device, each=devices_each):
                    return device.id // each

                share = row_share(8, mesh, process=process, process_of=process_of)
                rows = rows_held(8, mesh, process_of, process)
                assert held.setdefault(share.index, rows) == rows
                assert len(rows) * share.count == 8
            np.testing.assert_array_equal(sorted(row for rows in held.values() for row in rows), range(8))


def test_one_device_has_the_only_share():
    assert row_share(3, None) == RowShare(index=0, count=1)


@pytest.mark.parametrize(
    ("mesh", "devices_each", "rows", "found"),
    [
        ("data=2,tensor=3", 2, 2, "of 2 rows process 0 holds 0, and process 1 0, 1"),
        ("fsdp=2,expert=3", 2, 3, "of 3 rows process 0 holds 0, 1, and process 1 0, 2"),
        ("data=4", 3, 4, "of 4 rows process 0 holds 0, 1, 2, and process 1 3"),
        ("data=6", 4, 60, "of 60 rows process 0 holds 0, 1, 2, 3, 4, 5, 6, 7 and 32 more, and process 1 40, 41"),
    ],
)
def test_mesh_that_cuts_across_processes_is_refused_with_the_rows(mesh, devices_each, rows, found):
    assert jax.device_count() == 8
    words = rf"^run\.mesh: the mesh cuts across the processes.*found {mesh}, where {found}.* Such as data=\d,tensor=-1"
    with pytest.raises(ConfigError, match=words):
        row_share(rows, make_mesh(mesh), process=0, process_of=lambda device: device.id // devices_each)
