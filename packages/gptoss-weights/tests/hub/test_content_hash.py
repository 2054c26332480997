"""The two kinds of hash that the Hub states."""

import shutil
import subprocess

import pytest
from gptoss_weights.hub.content_hash import ContentHash

SHA1, SHA256 = "ab" * 20, "cd" * 32


def test_git_sha1_is_gits_own(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    content = b"what git calls a blob\n"
    (tmp_path / "file").write_bytes(content)
    expected = subprocess.run(["git", "hash-object", "file"], cwd=tmp_path, capture_output=True, text=True, check=True)
    hasher = ContentHash("git-sha1", "").hasher(len(content))
    hasher.update(content)
    assert hasher.hexdigest() == expected.stdout.strip()


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [(SHA1, "git-sha1"), (SHA256, "sha256"), (f'"{SHA256}"', "sha256"), (f'W/"{SHA1.upper()}"', "git-sha1")],
)
def test_etag_is_told_by_its_length(text, algorithm):
    assert ContentHash.parse(text) == ContentHash(algorithm, SHA1 if algorithm == "git-sha1" else SHA256)


@pytest.mark.parametrize(
    "text", [None, "", "abc", "d41d8cd98f00b204e9800998ecf8427e", "../" * 10 + SHA1[:34], "g" * 40]
)
def test_anything_else_is_no_hash(text):
    assert ContentHash.parse(text) is None
