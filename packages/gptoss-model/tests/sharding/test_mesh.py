import jax
import numpy as np
import pytest
from gptoss_model import MeshRules, make_mesh
from gptoss_model.sharding.mesh import mesh_rules


def test_mesh_has_all_four_axes_and_every_device_once():
    mesh = make_mesh("data=2,fsdp=1,tensor=-1")
    assert dict(mesh.shape) == {"data": 2, "fsdp": 1, "expert": 1, "tensor": 4}
    assert sorted(device.id for device in mesh.devices.flat) == list(range(8))
    assert mesh_rules(mesh) == MeshRules(data=2, tensor=4)


def test_some_of_the_devices_make_a_mesh_too():
    devices = jax.devices()[2:4]
    assert set(make_mesh(MeshRules(tensor=2), devices).devices.flat) == set(devices)


def test_small_mesh_takes_the_first_devices():
    mesh = make_mesh("data=2,tensor=2")
    assert sorted(device.id for device in mesh.devices.flat) == [0, 1, 2, 3]


def test_small_mesh_is_refused_where_a_process_could_be_left_without_a_part(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match=r"one of 2 × 2 = 4 devices, but there are 8"):
        make_mesh("data=2,tensor=2")


def test_wrong_number_of_devices_is_refused_with_the_numbers_and_a_way_out():
    wanted = r"one of 4 × 4 = 16 devices, but there are 8\. On a CPU .*JAX_NUM_CPU_DEVICES"
    with pytest.raises(ValueError, match=wanted):
        make_mesh("data=4,tensor=4")
    with pytest.raises(ValueError, match=r"one of 2 devices, but there are 4"):
        make_mesh("tensor=2", jax.devices()[:4])


def test_mesh_with_foreign_axes_is_refused():
    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "tensor"))
    with pytest.raises(ValueError, match="the axes data, fsdp, expert, tensor, not x"):
        mesh_rules(mesh)
