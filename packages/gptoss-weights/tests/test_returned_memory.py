import subprocess
import sys

import pytest

# Fills eight blocks of 24 MiB, the size of an array's chunk, and one above them that keeps the heap from
# shrinking; frees the eight, and prints the MiB that the process still holds.
FREED = """
import ctypes, sys
from gptoss_weights.returned_memory import return_large_blocks
if sys.argv[1] == "returned":
    return_large_blocks()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def held():
    [line] = [line for line in open("/proc/self/status") if line.startswith("RssAnon:")]
    return int(line.split()[1]) >> 10
libc.free(libc.malloc((32 << 20) - 8192))  # glibc now keeps what is smaller
before = held()
*freed, last = [libc.malloc(24 << 20) for _ in range(9)]
for block in freed:
    ctypes.memset(block, 1, 24 << 20)
for block in freed:
    libc.free(block)
print(held() - before)
"""


def held_mib(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", FREED, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and the setting is glibc's")
def test_freed_blocks_do_not_stay_with_the_process():
    assert held_mib("kept") > 100, "the C library no longer keeps such blocks, so the module can go"
    assert held_mib("returned") < 24
