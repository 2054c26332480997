"""What must not be in the repository: large files, one machine's paths, a package index's address."""

import re
from pathlib import Path

MAX_FILE_BYTES = 2 * 2**20  # git keeps every version for ever
# Written in two halves, for this file is tracked too.
INDEX_HOSTS = ["pypi" + ".org", "python" + "hosted.org", "download.pytorch" + ".org", "pypi.nvidia" + ".com"]
MACHINE_PATH = re.compile(r"(?<![\w./:}-])/(?:home|mnt|opt|private|root|Users|work)/[\w.]+")
LOCK = "uv.lock"  # uv writes the addresses there, and nowhere else


def text_of(path: Path) -> str:
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode()


def test_no_file_is_large(tracked_files):
    assert [str(path) for path in tracked_files if path.stat().st_size > MAX_FILE_BYTES] == []


def test_no_file_but_the_lock_names_a_package_index(tracked_files, root: Path):
    found = [
        f"{path.relative_to(root)}: {host}"
        for path in tracked_files
        if path.name != LOCK
        for host in INDEX_HOSTS
        if host in text_of(path)
    ]
    assert found == []


def test_no_file_holds_a_path_of_somebodys_machine(tracked_files, root: Path):
    found = [
        f"{path.relative_to(root)}: {match}" for path in tracked_files for match in MACHINE_PATH.findall(text_of(path))
    ]
    assert found == []


def test_machine_paths_are_recognised():
    assert MACHINE_PATH.search("see /" + "home/somebody/checkpoint")
    assert not MACHINE_PATH.search("https://example.com/work/item and packages/home/x")


def test_test_folders_are_no_packages(tracked_files):
    assert [str(path) for path in tracked_files if path.name == "__init__.py" and "tests" in path.parts] == []
