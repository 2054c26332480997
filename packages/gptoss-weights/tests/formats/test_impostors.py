"""What lies under a weight file's name is told by its first bytes."""

import pickle
from pathlib import Path

import pytest
from gptoss_weights import CheckpointError
from gptoss_weights.formats.impostors import refuse_impostors

FILE = Path("model.bin")


def refuse(start: bytes) -> None:
    refuse_impostors(FILE, start, wanted="safetensors files")


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"", "the file is empty. Download it again."),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
            "the file is a Git-LFS pointer, not the weights.",
        ),
        (b"\n <!doctype HTML>", "the file is an HTML page, not the weights."),
        (b"\xef\xbb\xbf<!DOCTYPE html>", "the file is an HTML page, not the weights."),
        (b'<?xml version="1.0"?>', "the file is an XML page, not the weights."),
        (b"<html lang='en'>", "the file is an HTML page, not the weights."),
        (b"PK\x03\x04\x14", "the file is a zip or pickle archive, which is never opened. Give safetensors files."),
    ],
)
def test_impostors_are_called_what_they_are(start: bytes, words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        refuse(start)
    assert str(caught.value).startswith(f"model.bin: {words}")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_any_binary_protocol_is_refused(protocol: int) -> None:
    with pytest.raises(CheckpointError, match="the file is a pickle, which is never opened"):
        refuse(pickle.dumps({"weight": [1.0, 2.0]}, protocol=protocol)[:64])


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480, 0x0580, 0x010280])
def test_a_safetensors_header_whose_length_looks_like_a_pickle_is_none(length: int) -> None:
    refuse(length.to_bytes(8, "little") + b'{"weight":')
