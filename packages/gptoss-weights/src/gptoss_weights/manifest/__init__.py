"""Manifests: what an artefact was when it was written, so that a single flipped bit is found later, offline.

    write_manifest("gpt-oss-20b-hf")  # manifest.json; of bundle.msgpack it is bundle.manifest.json

A manifest has the size and BLAKE3 of every file, part by part, and of every canonical tensor: the
first find damage anywhere, the second say which tensor it hit, and are the same in every layout that
stores the same values. `document` is the file itself, `artefact` says which files belong, `hashing`
reads them once, `writing` puts it together, `recorded` looks up what the manifest of a source says,
`origin` holds a source to that before it is decoded, `checking` holds an artefact against it, and `report` is
all that `verify` finds.
"""

from gptoss_weights.manifest.artefact import MANIFEST_NAME, find_artefact
from gptoss_weights.manifest.checking import (
    FileDamage,
    TensorDamage,
    damaged_files,
    damaged_tensors,
    differing_config_numbers,
    unlisted_files,
)
from gptoss_weights.manifest.document import FileEntry, Manifest, TensorEntry, read_manifest
from gptoss_weights.manifest.hashing import TensorHalf
from gptoss_weights.manifest.origin import refuse_changed_source
from gptoss_weights.manifest.recorded import RecordedChecksums
from gptoss_weights.manifest.report import VerificationReport, verify_artefact
from gptoss_weights.manifest.writing import assemble_manifest, make_manifest, write_manifest

__all__ = [
    "MANIFEST_NAME",
    "FileDamage",
    "FileEntry",
    "Manifest",
    "RecordedChecksums",
    "TensorDamage",
    "TensorEntry",
    "TensorHalf",
    "VerificationReport",
    "assemble_manifest",
    "damaged_files",
    "damaged_tensors",
    "differing_config_numbers",
    "find_artefact",
    "make_manifest",
    "read_manifest",
    "refuse_changed_source",
    "unlisted_files",
    "verify_artefact",
    "write_manifest",
]
