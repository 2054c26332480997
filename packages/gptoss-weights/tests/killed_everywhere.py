"""Kills a conversion at one step after another and runs it again each time.

    python killed_everywhere.py SOURCE FOLDER FORMAT EDGE EVERY

tries EDGE steps at either end, and of those between one in EVERY.

A step is whatever changes the disk. The process forks before any thread runs, and each child ends
without a word at its step, as SIGKILL would end it: buffers of Python are lost, what was handed to the
system stays. Prints the steps that there are, and how many of them were tried.
"""

import os
import shutil
import sys
import traceback
from pathlib import Path

from gptoss_weights import convert_checkpoint, open_checkpoint

KILLED, FAILED = 9, 1
AUDITED = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
CALLED = ("pwrite", "ftruncate", "copy_file_range")


def main(source: Path, folder: Path, format_name: str, edge: int, every: int) -> None:
    if format_name.startswith("orbax"):
        import tensorstore  # noqa: F401 - once, and not in every child
    name = "out.msgpack" if format_name == "flax" else "out"
    expected = folder / "expected"
    expected.mkdir()
    steps = run(source, expected / name, format_name, None)
    tried = 0
    for step in range(steps):
        if edge <= step < steps - edge and step % every:
            continue
        tried += 1
        place = folder / str(step)
        place.mkdir()
        run(source, place / name, format_name, step)
        run(source, place / name, format_name, None)
        if contents(place) != contents(expected):
            sys.exit(f"killed at step {step} of {steps} it ends in {sorted(contents(place))}")
        shutil.rmtree(place)
    print(steps, tried)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(source: Path, target: Path, format_name: str, last: int | None) -> int:
    """Converts in a child, which dies instead of its step number `last`; returns how many steps it took."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        steps = Steps(last)
        try:
            convert_checkpoint(open_checkpoint(source), target, format=format_name)
        except BaseException:  # noqa: BLE001 - told, and the child must not go on in its parent's code
            traceback.print_exc()
            os._exit(FAILED)
        os.write(writer, str(steps.count).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        count = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != (0 if last is None else KILLED):
        sys.exit(f"killed at step {last} it ended with {status}" if last is not None else "it failed; see above")
    return int(count or 0)


class Steps:
    """Counts steps of this process and ends it at one of them."""

    def __init__(self, last: int | None) -> None:
        self.count, self.last = 0, last
        sys.addaudithook(self.heard)
        for name in CALLED:
            if hasattr(os, name):
                setattr(os, name, self.counted(getattr(os, name)))
        os.fsync = self.counted(lambda _: None)  # a kill needs no disk, and waiting for it takes most of the time

    def heard(self, event: str, arguments: tuple[object, ...]) -> None:
        flags = arguments[2] if event == "open" else None
        if event in AUDITED or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            self.step()

    def counted(self, call):
        def step_and_call(*arguments, **keywords):
            self.step()
            return call(*arguments, **keywords)

        return step_and_call

    def step(self) -> None:
        if self.count == self.last:
            os._exit(KILLED)
        self.count += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:]))
