"""Run inside an environment that holds one package's wheel and what it declares: does it stand alone?

Usage: `python -I check.py gptoss-weights`. The nox session `standalone` builds the environment.
Exits 1 with a sentence at the first thing that does not hold.
"""

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import json
import pkgutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

TORCH = ("torch", "gpt_oss", "transformers")
JAX = ("jax", "jaxlib", "flax")
ONNX = ("onnx", "onnx_ir", "onnxruntime", "onnxscript")
MISSING_DEPENDENCY = 5  # gptoss_weights.cli_errors.ExitCode


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """What a package promises of an environment that holds nothing else.

    Attributes:
        absent: Import names that nothing brings.
        real_command: Does something useful in a fresh folder.
        behind_extras: Modules that may need something absent to be imported; no other may.
    """

    absent: tuple[str, ...]
    real_command: Callable[[Path], None]
    behind_extras: tuple[str, ...] = ()


def weights_reads_a_checkpoint(folder: Path) -> None:
    """`inspect` and `verify` on a random checkpoint."""
    checkpoint = random_checkpoint(folder)
    json.loads(run("gptoss-weights", "inspect", checkpoint, "--json"))
    run("gptoss-weights", "verify", checkpoint)


def model_generates(folder: Path) -> None:
    """Two new tokens from a random checkpoint."""
    require_two_tokens(run("gptoss-model", *generate_arguments("generate", random_checkpoint(folder))))


def onnx_exports_and_generates(folder: Path) -> None:
    """Two new tokens from a random checkpoint, through a graph."""
    run("gptoss-onnx", "export", random_checkpoint(folder), str(folder / "onnx"))
    require_two_tokens(run("gptoss-onnx", *generate_arguments("run", str(folder / "onnx"))))


def parity_compares_goldens(folder: Path) -> None:
    """A golden trace equals itself; a source whose extra is absent says so."""
    from gptoss_weights.demo import demo_golden_path

    golden = str(demo_golden_path("float32"))
    run("gptoss-parity", "compare", golden, golden)
    record = ["record", random_checkpoint(folder), "--source", "jax", "--tokens", "1,2,3"]
    run("gptoss-parity", *record, "--output", str(folder / "trace.safetensors"), expected=MISSING_DEPENDENCY)
    run("gptoss-parity", "selftest")


def train_trains_and_goes_home(folder: Path) -> None:
    """Two steps of a tiny model, exported as MXFP4."""
    small = [
        "geometry.num_hidden_layers=2",
        "steps=2",
        "optimizer.warmup_steps=0",
        "batch_size=2",
        "sequence_length=32",
    ]
    place = [f"output={folder}", "data.synthetic.longest=30"]
    run("gptoss-train", "pretrain", "tiny", *small, *place)
    run("gptoss-train", "export", str(folder / "tiny"), str(folder / "home"))
    run("gptoss-weights", "verify", str(folder / "home"))


CLAIMS = {
    "gptoss-weights": Claim(absent=TORCH + JAX + ONNX, real_command=weights_reads_a_checkpoint),
    "gptoss-model": Claim(absent=TORCH + ONNX, real_command=model_generates),
    "gptoss-onnx": Claim(absent=TORCH + JAX, real_command=onnx_exports_and_generates),
    "gptoss-parity": Claim(
        absent=TORCH + JAX + ONNX,
        real_command=parity_compares_goldens,
        behind_extras=(
            "gptoss_parity.sources.foreign_onnx",
            "gptoss_parity.sources.jax",
            "gptoss_parity.sources.onnx",
            "gptoss_parity.sources.openai_torch",
            "gptoss_parity.sources.openai_tracing",
            "gptoss_parity.sources.torch_tensors",
            "gptoss_parity.sources.transformers",
        ),
    ),
    "gptoss-train": Claim(absent=TORCH + ONNX, real_command=train_trains_and_goes_home),
}


def main(package: str) -> None:
    """Hold one package to its claim."""
    claim = CLAIMS[package]
    for name in claim.absent:
        if importlib.util.find_spec(name) is not None:
            fail(f"{name} is installed, though {package} must not bring it")
    modules = import_all(package.replace("-", "_"), claim)
    for name in modules:
        if str(Path(sysconfig.get_path("purelib"))) not in str(sys.modules[name].__file__):
            fail(f"{name} was imported from {sys.modules[name].__file__}, not from the installed wheel")
    if "Usage:" not in run(package, "--help"):
        fail(f"{package} --help shows no usage")
    with tempfile.TemporaryDirectory() as folder:
        claim.real_command(Path(folder))
    version = importlib.metadata.version(package)
    print(f"{package} {version} stands alone: {len(modules)} modules, {claim.real_command.__doc__}")


def import_all(package: str, claim: Claim) -> list[str]:
    """Import every module of a package, but those behind extras, and return their names."""
    root = importlib.import_module(package)
    names = [module.name for module in pkgutil.walk_packages(root.__path__, f"{package}.")]
    missing = sorted(set(claim.behind_extras) - set(names))
    if missing:
        fail(f"{package} has no modules {missing}")
    wanted = [package, *(name for name in names if name not in claim.behind_extras and not name.endswith("__main__"))]
    for name in wanted:
        importlib.import_module(name)
    return wanted


def random_checkpoint(folder: Path) -> str:
    """The path of a fresh tiny checkpoint."""
    from gptoss_weights.testing import write_tiny_checkpoint

    return str(write_tiny_checkpoint(folder / "checkpoint", format="openai"))


def generate_arguments(command: str, target: str) -> list[str]:
    """The options that both engines share."""
    return [command, target, "--tokens", "1,2,3", "--max-new-tokens", "2", "--ignore-eos", "--json"]


def require_two_tokens(output: str) -> None:
    """Fail unless the JSON holds two new tokens."""
    if len(json.loads(output)["tokens"]) != 2:
        fail(f"expected two new tokens, found {output}")


def run(*command: str, expected: int = 0) -> str:
    """Run a console script of this environment and return what it prints."""
    script = Path(sysconfig.get_path("scripts")) / command[0]
    done = subprocess.run([str(script), *command[1:]], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != expected:
        fail(f"{' '.join(command)} exited {done.returncode}, not {expected}: {done.stdout}{done.stderr}")
    return done.stdout


def fail(sentence: str) -> None:
    """Stop with the sentence."""
    raise SystemExit(sentence)


if __name__ == "__main__":
    main(sys.argv[1])
