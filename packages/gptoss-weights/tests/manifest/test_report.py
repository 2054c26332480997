"""One flipped bit anywhere in any artefact is found, and the file and tensor that it hit are named."""

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gptoss_weights import (
    CheckpointError,
    StoredArray,
    StoredMxfp4,
    open_checkpoint,
    read_manifest,
    verify_artefact,
    write_manifest,
)
from gptoss_weights.formats.flax_msgpack.index import index_arrays
from gptoss_weights.formats.flax_msgpack.tree import flax_leaves
from gptoss_weights.formats.safetensors_files import read_header
from gptoss_weights.manifest import find_artefact
from gptoss_weights.testing import write_tiny_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:.*unknown config key:gptoss_weights.GptOssWarning")  # of flipped keys

type MakeArtefact = Callable[[str], Path]
KINDS = ["openai", "hf", "hf-bf16", "flax", "orbax-scanned", "orbax-unscanned"]
MAXTEXT = Path(__file__).parents[1] / "formats" / "orbax" / "data"
FLIPS = 25  # of each kind, besides one in every file


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ (1 << (bit % 8))]))


def tensor_ranges(path: Path) -> dict[Path, list[tuple[range, set[str]]]]:
    """File → ranges of bytes, and the canonical tensors of which some stands there, found without the manifest."""
    found: dict[Path, list[tuple[range, set[str]]]] = {}

    def add(array: StoredArray, names: set[str]) -> None:
        found.setdefault(array.path, []).append((range(array.offset, array.offset + array.nbytes), names))

    checkpoint = open_checkpoint(path)
    if path.suffix == ".msgpack":
        leaves = flax_leaves(checkpoint.config)
        for at, array in index_arrays(path).items():
            for piece in array.pieces:
                add(piece, {spec.name for spec in leaves[at].specs})
        return found
    for name in checkpoint:
        match checkpoint.stored(name):
            case StoredMxfp4(blocks=blocks, scales=scales):
                add(blocks, {name})
                add(scales, {name})
            case StoredArray() as array:
                add(array, {name})
            case None if checkpoint.format == "hf-bf16":
                add(
                    next(
                        header[name] for shard in path.glob("*.safetensors") if name in (header := read_header(shard))
                    ),
                    {name},
                )
    return found


def flips(path: Path, seed: int) -> Iterator[tuple[Path, int]]:
    """A bit in every file, and many more where most bytes are."""
    pick = random.Random(seed)
    artefact = find_artefact(path)
    files = [artefact.path(file) for file in artefact.files()]
    sizes = [file.stat().st_size for file in files]
    for file, size in zip(files, sizes, strict=True):
        yield file, pick.randrange(size * 8)
    for file in pick.choices(files, sizes, k=FLIPS):
        yield file, pick.randrange(file.stat().st_size * 8)


@pytest.mark.parametrize("kind", KINDS)
def test_sound_artefact_has_no_problems(artefact: MakeArtefact, kind: str) -> None:
    path = artefact(kind)
    report = verify_artefact(path)
    assert report.problems == []
    assert report.manifest_path == find_artefact(path).manifest
    assert report.to_json()["ok"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_is_found_and_placed(artefact: MakeArtefact, kind: str) -> None:
    path = artefact(kind)
    ranges = tensor_ranges(path)
    hits = 0
    for file, bit in flips(path, seed=KINDS.index(kind)):
        flip(file, bit)
        report = verify_artefact(path)
        flip(file, bit)
        assert [damage.path for damage in report.files] == [file], (file, bit)
        assert any(str(file) in problem for problem in report.problems)
        hit = {name for where, names in ranges.get(file, []) if bit // 8 in where for name in names}
        if hit:
            hits += 1
            damaged = {damage.tensor for damage in report.tensors}
            assert len(damaged) == 1, (file, bit)
            assert damaged <= hit, (file, bit)
            (name,) = damaged
            assert any(str(file) in problem and name in problem for problem in report.problems)
    assert hits or kind.startswith("orbax")
    assert verify_artefact(path).problems == []


@pytest.mark.parametrize("kind", ["orbax-scanned", "orbax-unscanned"])
def test_flipped_bit_in_a_chunk_of_orbax_names_the_tensors_of_its_leaf(artefact: MakeArtefact, kind: str) -> None:
    path = artefact(kind)
    entries = read_manifest(path / "manifest.json").tensors
    chunks = [file for file in find_artefact(path).files() if "/c/" in file]
    for file in random.Random(1).sample(chunks, 12):
        bit = random.Random(file).randrange((path / file).stat().st_size * 8)
        flip(path / file, bit)
        report = verify_artefact(path)
        flip(path / file, bit)
        leaf = f"{file.partition('/c/')[0]}/"
        expected = {name for name, entry in entries.items() if leaf in entry.files}
        damaged = {damage.tensor for damage in report.tensors}
        assert damaged
        assert damaged <= expected
        assert all("it cannot be read" in damage.problem and "damaged" in damage.problem for damage in report.tensors)


@pytest.mark.parametrize("name", ["maxtext-scanned", "maxtext-unscanned"])
def test_flipped_bits_are_found_in_what_maxtext_wrote(name: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorstore", reason="needs the extra orbax")
    path = Path(shutil.copytree(MAXTEXT / name, tmp_path / name))
    manifest = write_manifest(path)
    assert manifest == path / "0" / "items" / "manifest.json"
    assert verify_artefact(path).problems == []
    for file, bit in flips(path, seed=3):
        flip(file, bit)
        report = verify_artefact(path)
        flip(file, bit)
        assert [damage.path for damage in report.files] == [file], (file, bit)


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bit_in_the_manifest_is_not_blamed_on_the_checkpoint(artefact: MakeArtefact, kind: str) -> None:
    path = artefact(kind)
    manifest = find_artefact(path).manifest
    pick = random.Random(2)
    for _ in range(FLIPS):
        bit = pick.randrange(manifest.stat().st_size * 8)
        flip(manifest, bit)
        with pytest.raises(CheckpointError) as error:
            verify_artefact(path)
        flip(manifest, bit)
        assert str(error.value).startswith(f"{manifest}: the manifest"), bit


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_missing_and_longer_files_are_named(artefact: MakeArtefact, kind: str) -> None:
    path = artefact(kind)
    place = find_artefact(path)
    for file in place.files():
        stands = place.path(file)
        content = stands.read_bytes()
        for changed, words in (
            (content[:-1], f"the file is truncated, {len(content) - 1} bytes instead of {len(content)}"),
            (content + b"\0", f"the file is longer, {len(content) + 1} bytes instead of {len(content)}"),
            (None, "the file is missing"),
        ):
            stands.unlink()
            if changed is not None:
                stands.write_bytes(changed)
            report = verify_artefact(path)
            stands.write_bytes(content)
            assert [(damage.file, damage.problem) for damage in report.files] == [(file, words)]
            assert report.problems


@pytest.mark.parametrize("kind", KINDS)
def test_readme_may_come(artefact: MakeArtefact, kind: str) -> None:
    path = artefact(kind)
    root = find_artefact(path).root
    (root / "README.md").write_text("# A model\n")
    (root / ".DS_Store").write_bytes(b"\0")
    assert verify_artefact(path).problems == []


def test_changed_header_that_still_opens_is_told_from_a_tensor(artefact: MakeArtefact) -> None:
    path = artefact("hf")
    shard = min(path.glob("*.safetensors"))
    content = shard.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length]
    swapped = header.replace(b'"dtype":"BF16","shape"', b'"dtype":"BF16" ,"shape"', 1)
    shard.write_bytes((length + 1).to_bytes(8, "little") + swapped + content[8 + length :])
    report = verify_artefact(path)
    assert report.structure is None
    assert len(report.problems) == 1
    assert "the file is longer" in report.problems[0]
    assert report.problems[0].endswith("; no tensor has, so it is in what stands around them")


def test_manifest_of_another_checkpoint_is_called_so(artefact: MakeArtefact, tmp_path: Path) -> None:
    path = artefact("hf")
    other = write_tiny_checkpoint(tmp_path / "other", format="hf", seed=1, max_shard_bytes=200_000, num_hidden_layers=2)
    report = verify_artefact(other, manifest=path / "manifest.json")
    assert report.is_of_another_checkpoint
    wider = write_tiny_checkpoint(tmp_path / "wider", format="hf", hidden_size=128, num_hidden_layers=2)
    report = verify_artefact(wider, manifest=path / "manifest.json")
    assert report.is_of_another_checkpoint
    assert any("the config differs: hidden_size is 128 here and 96 in the manifest" in text for text in report.problems)
    assert not verify_artefact(path).is_of_another_checkpoint


@pytest.mark.parametrize(("kind", "other"), [("openai", "hf"), ("hf", "openai"), ("orbax-scanned", "flax")])
def test_manifest_of_another_layout_holds_for_the_tensors(artefact: MakeArtefact, kind: str, other: str) -> None:
    path = artefact(kind)
    manifest = find_artefact(artefact(other)).manifest
    report = verify_artefact(path, manifest=manifest)
    assert report.problems == []
    assert not report.is_same_layout


def test_manifest_of_another_layout_finds_the_changed_tensor(artefact: MakeArtefact) -> None:
    path, other = artefact("openai"), artefact("hf")
    name = "model.layers.1.mlp.experts.down_proj"
    stored = open_checkpoint(path).stored(name)
    assert isinstance(stored, StoredMxfp4)
    flip(stored.scales.path, stored.scales.offset * 8)
    report = verify_artefact(path, manifest=other / "manifest.json")
    assert report.problems == [f"{path}: {name}: its scales have changed"]


def test_decoded_tensors_are_not_compared_with_checksums_of_packed_ones(artefact: MakeArtefact) -> None:
    report = verify_artefact(artefact("flax"), manifest=artefact("hf") / "manifest.json")
    assert len(report.tensors) == 4
    assert all(
        damage.problem == "it is bfloat16 here and MXFP4 in the manifest; compare values with --against"
        for damage in report.tensors
    )


def test_without_a_manifest_structure_and_values_are_checked(artefact: MakeArtefact) -> None:
    path = artefact("hf")
    (path / "manifest.json").unlink()
    report = verify_artefact(path)
    assert (report.manifest, report.problems) == (None, [])


def test_progress_is_told_of_every_byte_and_tensor(artefact: MakeArtefact) -> None:
    path = artefact("openai")
    told: dict[str, list[int]] = {}

    @contextlib.contextmanager
    def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
        told[what] = [total]
        yield told[what].append

    verify_artefact(path, progress=progress)
    assert list(told) == ["hashing", "reading"]
    for total, *steps in told.values():
        assert total == sum(steps) > 0
