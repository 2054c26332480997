"""Fuzzes one reader, or one after the other, under the coverage-guided fuzzer atheris; see README.md beside it.

python fuzz_readers.py header -max_total_time=60
"""

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris
from mutation import mutated

with atheris.instrument_imports(include=["gptoss_weights"]):
    from targets import TARGETS, workplace

SECONDS_EACH = 30  # of every reader, where none is named
SECONDS = 1.0  # longest that one small input may take
LONGEST = 16384  # bytes of an input
GROWTH_BYTES = 100 << 20  # most that the process may grow by it


def main() -> None:
    if len(sys.argv) == 1:
        for name in TARGETS:
            subprocess.run([sys.executable, __file__, name, f"-max_total_time={SECONDS_EACH}"], check=True)
        return
    name, *options = sys.argv[1:]
    if name not in TARGETS:
        sys.exit(f"usage: fuzz_readers.py {{{','.join(TARGETS)}}} [options of libFuzzer]")
    target = TARGETS[name]
    corpus = Path(os.environ.get("FUZZ_CORPUS", tempfile.gettempdir())) / f"gptoss-fuzz-{name}"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed{number}").write_bytes(seed)
    signal.signal(signal.SIGALRM, too_slow)
    with workplace() as folder:

        def test(content: bytes) -> None:
            before = peak_bytes()
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            with contextlib.suppress(*target.refusals):
                target.read(content, folder)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if peak_bytes() - before > GROWTH_BYTES:
                raise MemoryError(f"{len(content)} bytes of input took more than {GROWTH_BYTES} bytes of memory")

        def mutate(content: bytes, max_size: int, seed: int) -> bytes:
            chance = random.Random(seed)
            if chance.random() < 0.3:
                return atheris.Mutate(content, max_size)
            return mutated(content, chance, is_json=target.is_json)[:max_size]

        arguments = [sys.argv[0], str(corpus), f"-max_len={LONGEST}", *options]
        atheris.Setup(arguments, test, custom_mutator=mutate)
        atheris.Fuzz()


def too_slow(_signum: int, _frame: object) -> None:
    raise TimeoutError(f"the input took longer than {SECONDS} s")


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
