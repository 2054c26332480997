"""MaxText restores the trees that we write and computes what we do; we read back what it saves of them.

Usage: `python check.py PYTHON`, the interpreter of an environment that holds MaxText. The nox session
`maxtext` builds it. Exits 1 with a sentence if something does not hold.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gptoss_model import load_model, prompt_logits
from gptoss_weights import (
    Checkpoint,
    compare_checkpoints,
    convert_checkpoint,
    dequantized,
    open_checkpoint,
    random_checkpoint,
)
from gptoss_weights.testing import tiny_config

LARGEST_ERROR = 2e-6  # relative L2 of float32 logits; 7e-7 was measured
TOKENS = 48  # several windows
THEIRS = Path(__file__).with_name("theirs.py")


def main() -> None:
    checkpoint = random_checkpoint(tiny_config(), seed=5)
    tokens = np.random.default_rng(0).integers(0, checkpoint.config.vocab_size, TOKENS)
    ours = np.concatenate(list(prompt_logits(load_model(checkpoint, dtype=np.float32), tokens.tolist())))
    for is_scanned in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            hold(checkpoint, tokens, ours, Path(folder), is_scanned=is_scanned)


def hold(checkpoint: Checkpoint, tokens: np.ndarray, ours: np.ndarray, folder: Path, *, is_scanned: bool) -> None:
    layout = "orbax-scanned" if is_scanned else "orbax-unscanned"
    convert_checkpoint(checkpoint, folder / "tree", format=layout, dtype=np.float32)
    (folder / "config.json").write_text(json.dumps(checkpoint.config.numbers()))
    np.save(folder / "tokens.npy", tokens[None])
    arguments = [folder / "config.json", folder / "tree", folder / "tokens.npy", folder, *(["scanned"] * is_scanned)]
    # JAX's flags of this environment are for another version; MaxText's stay its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    subprocess.run([sys.argv[1], THEIRS, *arguments], check=True, env=environment | {"JAX_PLATFORMS": "cpu"})
    theirs = np.load(folder / "logits.npy")[0]
    error = float(np.linalg.norm(theirs - ours) / np.linalg.norm(ours))
    if not error <= LARGEST_ERROR:
        sys.exit(f"{layout}: MaxText's logits differ by {error:.1e} (relative L2), more than {LARGEST_ERROR:.0e}")
    (folder / "saved" / "config.json").write_text((folder / "config.json").read_text())
    saved = open_checkpoint(folder / "saved")
    if saved.format != layout:
        sys.exit(f"{layout}: what MaxText saved reads as {saved.format}")
    differences = compare_checkpoints(saved, dequantized(checkpoint)).differences
    if differences:
        sys.exit(f"{layout}: what MaxText saved differs in {', '.join(one.name for one in differences)}")
    print(f"{layout}: restored by MaxText, logits within {error:.1e} (relative L2) of ours, saved without a change")


if __name__ == "__main__":
    main()
