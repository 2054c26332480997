import json
import platform
import subprocess
import sys

import pytest

TOUCH_TWICE = """
import json, resource, sys
import numpy as np
from gptoss_train.memory import give_memory_back, keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(25_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1])

plain = faults(), faults()
keep_memory()
kept = faults(), faults()
held = resident()
give_memory_back()
print(json.dumps({"plain": plain, "kept": kept, "given_back": held - resident()}))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is kept is glibc's heap")
def test_large_blocks_are_cleared_once_and_go_back_when_that_is_asked_for():
    done = subprocess.run([sys.executable, "-c", TOUCH_TWICE], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    least = min(*found["plain"], found["kept"][0])
    assert least > 90, "a page at least for each 2 MiB of 200 MB"
    assert found["kept"][1] < least / 10
    assert found["given_back"] > 40_000, "of some 49 thousand pages of 4 KiB"
