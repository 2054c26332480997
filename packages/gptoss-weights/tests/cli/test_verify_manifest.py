"""`verify` with a manifest: what it finds, what it says when there is none, and how one is written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from gptoss_weights import StoredArray, open_checkpoint
from gptoss_weights.cli import main
from gptoss_weights.formats.orbax.location import Location
from gptoss_weights.manifest import find_artefact

type MakeArtefact = Callable[[str], Path]
KINDS = ["openai", "hf", "hf-bf16", "flax", "orbax-scanned", "orbax-unscanned"]
BIAS = "model.layers.1.self_attn.sinks"


def verify(path: Path, *options: object) -> Result:
    return CliRunner().invoke(main, ["verify", str(path), *map(str, options)])


def flip_bias(folder: Path) -> Path:
    """Flips the lowest bit of a value, which stays finite."""
    stored = open_checkpoint(folder).stored(BIAS)
    assert isinstance(stored, StoredArray)
    content = bytearray(stored.path.read_bytes())
    content[stored.offset] ^= 1
    stored.path.write_bytes(content)
    return stored.path


@pytest.mark.parametrize("kind", KINDS)
def test_artefact_as_it_was_written_passes(artefact: MakeArtefact, kind: str) -> None:
    path = artefact(kind)
    result = verify(path)
    assert (result.exit_code, result.stderr) == (0, "")
    place = find_artefact(path)
    count = len(place.files())
    assert result.stdout == (
        f"{path}: sound ({kind}, 37 tensors)\n{place.manifest}: all {count} files are as it says\n"
    )


@pytest.mark.parametrize("kind", ["openai", "hf"])
def test_flipped_bit_is_one_sentence_with_file_and_tensor(artefact: MakeArtefact, kind: str) -> None:
    path = artefact(kind)
    file = flip_bias(path)
    result = verify(path)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == (
        f"error: {file}: the file has changed since the manifest was written; in it {BIAS}: its values have changed. "
        "Fetch the weights again; see --json for all findings.\n"
    )
    document = json.loads(verify(path, "--json").stdout)
    assert not document["ok"]
    assert document["damaged_files"] == [
        {"file": file.name, "problem": "the file has changed since the manifest was written", "tensors": [BIAS]}
    ]
    assert document["damaged_tensors"] == [{"tensor": BIAS, "problem": "its values have changed"}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["tokenizer.json", "LICENSE"])
def test_changed_and_lost_side_files_are_exit_code_3(artefact: MakeArtefact, kind: str, file: str) -> None:
    path = artefact(kind)
    side_file = find_artefact(path).path(file)
    side_file.write_text(side_file.read_text().replace("e", "E", 1))
    result = verify(path)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: {side_file}: the file has changed since the manifest was written. ")
    side_file.unlink()
    result = verify(path)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: {side_file}: the file is missing. ")


def test_without_a_manifest_it_says_so(artefact: MakeArtefact) -> None:
    path = artefact("hf")
    (path / "manifest.json").unlink()
    flip_bias(path)
    result = verify(path)
    assert result.exit_code == 0
    assert result.stdout == (
        f"{path}: sound (hf, 37 tensors)\n"
        "there is no manifest, so a changed value that is still finite goes unseen; --write-manifest makes one\n"
    )
    assert json.loads(verify(path, "--json").stdout)["manifest"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_manifest_is_written_for_what_has_none(artefact: MakeArtefact, kind: str) -> None:
    path = artefact(kind)
    manifest = find_artefact(path).manifest
    text = manifest.read_text()
    manifest.unlink()
    result = verify(path, "--write-manifest")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith(f"{manifest}: written; from now on a single flipped bit is found\n")
    assert manifest.read_text() == text


def test_manifest_is_not_written_over(artefact: MakeArtefact) -> None:
    path = artefact("hf")
    result = verify(path, "--write-manifest")
    assert result.exit_code == 3
    assert result.stderr == (
        f"error: {path / 'manifest.json'}: there is a manifest already. Verify against it; "
        "if the checkpoint was changed on purpose, remove it first.\n"
    )


def test_damaged_checkpoint_gets_no_manifest(artefact: MakeArtefact) -> None:
    path = artefact("hf")
    (path / "manifest.json").unlink()
    stored = open_checkpoint(path).stored(BIAS)
    assert isinstance(stored, StoredArray)
    content = bytearray(stored.path.read_bytes())
    content[stored.offset : stored.offset + 2] = b"\xc0\x7f"
    stored.path.write_bytes(content)
    result = verify(path, "--write-manifest")
    assert result.exit_code == 3
    assert "values are not finite" in result.stderr
    assert not (path / "manifest.json").exists()


def test_manifest_may_stand_elsewhere(artefact: MakeArtefact, tmp_path: Path) -> None:
    path = artefact("openai")
    (path / "manifest.json").unlink()
    kept = tmp_path / "kept.json"
    document = json.loads(verify(path, "--write-manifest", "--manifest", kept, "--json").stdout)
    assert document["manifest_written"] == str(kept)
    assert not (path / "manifest.json").exists()
    assert verify(path, "--manifest", kept).stdout.endswith(f"{kept}: all 8 files are as it says\n")
    flip_bias(path)
    assert verify(path, "--manifest", kept).exit_code == 3


def test_manifest_of_another_layout_is_said(artefact: MakeArtefact) -> None:
    manifest = artefact("hf") / "manifest.json"
    result = verify(artefact("openai"), "--manifest", manifest)
    assert result.stdout.endswith(f"{manifest}: all tensors are as it says (files were not compared)\n")


def test_manifest_of_another_checkpoint_is_asked_about(artefact: MakeArtefact) -> None:
    path = artefact("hf")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"sliding_window": 12}))
    result = verify(path)
    assert result.exit_code == 3
    assert f"{path}: the config differs: sliding_window is 12 here and 11 in the manifest; " in result.stderr
    assert result.stderr.endswith(
        f". Is {path / 'manifest.json'} the manifest of another checkpoint? See --json for all findings.\n"
    )


def test_edited_and_missing_manifests_are_exit_code_3(artefact: MakeArtefact, tmp_path: Path) -> None:
    path = artefact("hf")
    manifest = path / "manifest.json"
    manifest.write_text(
        manifest.read_text().replace('"bytes": 2', '"bytes": 3', 1).replace('"bytes": 1', '"bytes": 3', 1)
    )
    result = verify(path)
    assert result.exit_code == 3
    assert result.stderr.startswith(
        f"error: {manifest}: the manifest itself is damaged, was edited, or is none of ours"
    )
    document = json.loads(verify(path, "--json").stdout)
    assert not document["ok"]
    assert "the manifest itself is damaged" in document["problems"][0]
    nowhere = tmp_path / "nowhere.json"
    result = verify(path, "--manifest", nowhere)
    assert (result.exit_code, result.stderr) == (3, f"error: {nowhere}: the manifest is not there\n")


def test_readme_is_no_finding_and_a_late_tokenizer_is_mentioned(artefact: MakeArtefact) -> None:
    path = artefact("hf")
    (path / "README.md").write_text("# A model")
    (path / "chat_template.jinja").write_text("{{ messages }}")
    result = verify(path)
    assert result.exit_code == 0
    assert result.stdout.endswith("not in the manifest: chat_template.jinja\n")
    assert json.loads(verify(path, "--json").stdout)["unlisted_files"] == ["chat_template.jinja"]


def uploaded(folder: Path, url: str) -> str:
    """Copies a tree to a URL that lives as long as this process."""
    store = Location.at(url).open()
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            store.write(path.relative_to(folder).as_posix(), path.read_bytes()).result()
    return url


def test_tree_named_by_a_file_url_has_its_manifest(artefact: MakeArtefact) -> None:
    folder = artefact("orbax-unscanned")
    result = CliRunner().invoke(main, ["verify", folder.as_uri()])
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"{folder / 'manifest.json'}: all " in result.stdout


def test_tree_behind_a_url_is_held_against_a_manifest_from_elsewhere(artefact: MakeArtefact) -> None:
    folder = artefact("orbax-scanned")
    url = uploaded(folder, "memory://held-against-a-manifest")
    result = CliRunner().invoke(main, ["verify", url])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith(
        "behind a URL there is no manifest, so a changed value that is still finite goes unseen\n"
    )
    manifest = folder / "manifest.json"
    result = CliRunner().invoke(main, ["verify", url, "--manifest", str(manifest)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith(f"{manifest}: all tensors are as it says (files were not compared)\n")
    result = CliRunner().invoke(main, ["verify", url, "--write-manifest"])
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: {url}: manifests are of what stands on this machine. ")
