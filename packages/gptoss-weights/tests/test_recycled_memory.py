"""New arrays take the memory of those that are gone, never of those that are in use, and not too much is kept."""

import gc
import mmap
import threading
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest
from gptoss_weights import recycled_memory
from gptoss_weights.recycled_memory import recycled_empty

MIB = 1 << 20
pytestmark = pytest.mark.skipif(not hasattr(mmap, "MADV_FREE"), reason="this system cannot mark memory as free")


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    recycled_memory._kept.clear()
    yield
    recycled_memory._kept.clear()


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def kept() -> list[int]:
    return [len(storage) // MIB for storage in recycled_memory._kept]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ml_dtypes.bfloat16])
def test_array_is_as_was_asked_for(dtype: object) -> None:
    array = recycled_empty((3, 5 * MIB), dtype)
    assert (array.shape, array.dtype) == ((3, 5 * MIB), np.dtype(dtype))
    assert array.flags.writeable
    assert array.flags.c_contiguous
    array[...] = 1
    assert (array == 1).all()


def test_memory_of_an_array_that_is_gone_is_used_again() -> None:
    array = recycled_empty((8 * MIB,), np.uint8)
    place = address(array)
    del array
    assert address(recycled_empty((2 * MIB,), np.float32)) == place


def test_memory_that_is_in_use_is_never_shared() -> None:
    arrays = [recycled_empty((8 * MIB,), np.uint8) for _ in range(3)]
    for number, array in enumerate(arrays):
        array[...] = number
    assert [set(np.unique(array)) for array in arrays] == [{0}, {1}, {2}]


def test_any_view_keeps_the_memory_in_use() -> None:
    view = recycled_empty((8 * MIB,), np.uint8)[5:].view(np.int8).reshape(-1, 1)[7:8]
    view[...] = 3
    gc.collect()
    assert kept() == []
    recycled_empty((8 * MIB,), np.uint8)[...] = 0
    assert view[0, 0] == 3


def test_memory_far_too_large_is_left_for_others() -> None:
    del (array := [recycled_empty((32 * MIB,), np.uint8)])[:]
    assert array == []
    small = recycled_empty((8 * MIB,), np.uint8)
    assert kept() == [32]
    assert small.nbytes == 8 * MIB


def test_only_so_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recycled_memory, "KEPT_BYTES", 24 * MIB)
    arrays = [recycled_empty((size * MIB,), np.uint8) for size in (5, 9, 10, 25)]
    while arrays:
        arrays.pop(0)
    assert kept() == [5, 9, 10]
    arrays = [recycled_empty((22 * MIB,), np.uint8)]
    arrays.clear()
    assert kept() == [22]


def test_small_arrays_are_numpys() -> None:
    assert recycled_empty((1000,), np.uint8).flags.owndata
    assert recycled_empty((0, 3), np.uint8).shape == (0, 3)


def test_threads_never_share_memory() -> None:
    def work(number: int) -> None:
        for _ in range(50):
            array = recycled_empty((4 * MIB,), np.uint8)
            array[:: mmap.PAGESIZE] = number
            if not (array[:: mmap.PAGESIZE] == number).all():
                shared.append(number)

    shared: list[int] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared == []
    assert len(kept()) <= 2 * len(threads)  # a thread asks for the next array before it lets go of the last
