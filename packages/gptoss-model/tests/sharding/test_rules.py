import pytest
from gptoss_model import MeshRules


def test_axes_that_are_not_named_have_the_size_one():
    assert MeshRules.parse("data=2, tensor = 4") == MeshRules(data=2, tensor=4)
    assert MeshRules.parse("expert=8").sizes == (1, 1, 8, 1)


@pytest.mark.parametrize("text", ["data=2,fsdp=2,expert=2,tensor=2", "tensor=8", "data=-1,tensor=2", "data=1"])
def test_text_of_rules_reads_back(text):
    assert str(MeshRules.parse(text)) == text


def test_minus_one_takes_the_rest_of_the_devices():
    assert MeshRules.parse("data=-1,tensor=2").resolve(8) == MeshRules(data=4, tensor=2)
    assert MeshRules.parse("fsdp=-1").resolve(1).device_count == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a mesh is given as 'data=2,tensor=4', not ''"),
        ("tensor", "a mesh is given as 'data=2,tensor=4', not 'tensor'"),
        ("data=2,", "a mesh is given as 'data=2,tensor=4', not 'data=2,'"),
        ("tensors=2", "no mesh axis is called 'tensors'; .* did you mean 'tensor'?"),
        ("data=2,data=4", "names 'data' twice"),
        ("data=two", "a whole number as its size, not 'two'"),
        ("data=0", "a positive size, or -1 for the rest, not 0"),
        ("data=-2", "a positive size, or -1 for the rest, not -2"),
        ("data=-1,fsdp=-1", "only one mesh axis can be -1"),
    ],
)
def test_text_that_is_no_mesh_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        MeshRules.parse(text)


def test_sizes_that_do_not_multiply_to_the_devices_are_refused_with_the_numbers():
    with pytest.raises(ValueError, match=r"data=2,tensor=3 is one of 2 × 3 = 6 devices, but there are 8"):
        MeshRules(data=2, tensor=3).resolve(8)
    with pytest.raises(ValueError, match=r"no whole number of devices for 'fsdp': 3 does not divide 8 devices"):
        MeshRules(fsdp=-1, tensor=3).resolve(8)
    with pytest.raises(ValueError, match="takes the rest of the devices"):
        _ = MeshRules(fsdp=-1).device_count
