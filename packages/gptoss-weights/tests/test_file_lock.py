"""The lock between processes: one holder at a time, nothing left behind, no lock outlives its holder."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from gptoss_weights.file_lock import file_lock

HOLD = """
import sys, time
from pathlib import Path
from gptoss_weights.file_lock import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_file_is_there_only_while_it_is_held(tmp_path):
    with file_lock(tmp_path / "new" / "lock"):
        assert (tmp_path / "new" / "lock").exists()
    assert list((tmp_path / "new").iterdir()) == []


def test_lock_is_let_go_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), file_lock(tmp_path / "lock"):
        raise ZeroDivisionError
    with file_lock(tmp_path / "lock", on_wait=lambda: pytest.fail("nobody holds it")):
        pass


def test_only_one_holds_it_at_a_time(tmp_path):
    holders, most = [], []

    def work() -> None:
        for _ in range(20):
            with file_lock(tmp_path / "state" / "lock"):
                holders.append(1)
                most.append(len(holders))
                holders.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80


def test_another_process_is_waited_for_until_it_dies(tmp_path):
    path: Path = tmp_path / "lock"
    waited = threading.Event()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        threading.Thread(target=lambda: waited.wait(10) and process.kill()).start()
        with file_lock(path, on_wait=waited.set):
            assert waited.is_set()
    assert not path.exists()


def test_where_no_file_can_be_made_nobody_waits_for_ever(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "nowhere" / "lock")
    with pytest.raises(FileNotFoundError), file_lock(tmp_path / "lock"):
        pass
