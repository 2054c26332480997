"""The menu of checks. `nox -l` lists it, `nox` runs what a CPU can prove, `nox -s NAME` one session.

Sessions install from uv.lock, each only the groups it names, so PyTorch comes with `oracles` alone.
Two of them answer what a lock hides: `lowest` takes the oldest versions that the packages allow,
`standalone` takes the built wheels.
"""

import shutil
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"

ROOT = Path(__file__).parent
PYTHONS = ["3.12", "3.13"]
PYTHON = PYTHONS[0]
# Slow tests have a session of their own, so that the others answer soon.
FAST, SLOW = (f"{speed} and not oracle and not cuda and not tpu" for speed in ("not slow", "slow"))
PARALLEL = ("--numprocesses=auto", "--dist=loadfile")  # a file's tests share what its fixtures have compiled
UNCOMPILED = "--no-compile-bytecode"  # a session's first import makes it, of what it imports
NO_TESTS = 5  # pytest's exit code where a package has no slow test
# Most of the time of JAX's tests is compiling; what one session has compiled serves the next.
COMPILED = {
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".nox" / "jax-cache"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "PYTHONDONTWRITEBYTECODE": "",  # where it is set, every command that a test runs would compile all of JAX's sources
    "OMP_NUM_THREADS": "1",  # a worker of pytest has a core; more threads of PyTorch or BLAS only wait, and burn it
}
# Nothing of the last session's is of use to an older JAX. Whether its interfaces do is asked, not how fast its code is.
SOON_COMPILED = COMPILED | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
# Of each parametrised test the first and the last set, and none marked `numbers`: interfaces are asked about.
FIRST_AND_LAST, FIRST_AND_LAST_PATH = ["-p", "first_and_last"], {"PYTHONPATH": str(ROOT / "tests" / "first_and_last")}
PACKAGES = sorted(folder.name for folder in (ROOT / "packages").iterdir() if (folder / "pyproject.toml").is_file())

each_package, each_jax_package = (
    nox.parametrize("package", [nox.param(name, id=name) for name in names])
    for names in (PACKAGES, ["gptoss-model", "gptoss-train"])
)


@nox.session(python=PYTHON, tags=["cpu"])
def lint(session: nox.Session) -> None:
    """Style, formatting, and a lock that is up to date."""
    install_locked(session, "--only-group=lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run_install("uv", "lock", "--check")


@nox.session(python=PYTHON, tags=["cpu"])
def layers(session: nox.Session) -> None:
    """The walls between the packages, and the libraries that each may not import."""
    install_locked(session, "--only-group=layers")
    session.run("lint-imports", "--no-cache")


@nox.session(python=PYTHON, tags=["cpu"])
def types(session: nox.Session) -> None:
    """Strict types in every package's sources."""
    install_locked(session, "--only-group=types")
    session.run("mypy")


@nox.session(python=PYTHON, tags=["cpu"])
def docs(session: nox.Session) -> None:
    """The documentation site, where a warning is an error; it lands in site/."""
    install_locked(session, "--only-group=docs")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(python=PYTHONS, tags=["cpu"])
@each_package
def test(session: nox.Session, package: str) -> None:
    """One package's tests but the slow ones, with its declared extras only; all parameters with the first Python."""
    install_locked(session, f"--package={package}", "--group=test")
    thinned, env = ([], COMPILED) if session.python == PYTHON else (FIRST_AND_LAST, COMPILED | FIRST_AND_LAST_PATH)
    session.run("pytest", f"packages/{package}/tests", "-m", FAST, *PARALLEL, *thinned, *session.posargs, env=env)


@nox.session(python=PYTHON, tags=["cpu"])
@each_package
def slow(session: nox.Session, package: str) -> None:
    """One package's slow tests: meshes of many devices, long contexts, large files."""
    install_locked(session, f"--package={package}", "--group=test")
    command = ["pytest", f"packages/{package}/tests", "-m", SLOW, *PARALLEL, *session.posargs]
    session.run(*command, env=COMPILED, success_codes=[0, NO_TESTS])


@nox.session(python=PYTHON, tags=["cpu"])
def workspace(session: nox.Session) -> None:
    """What no package can test alone: names, versions, commands, and the way from end to end."""
    install_locked(session, "--only-group=workspace")
    session.run("pytest", "tests", "--ignore=tests/oracles", *PARALLEL, *session.posargs, env=COMPILED)


@nox.session(python=PYTHON, tags=["cpu"], reuse_venv=False)
@each_package
def standalone(session: nox.Session, package: str) -> None:
    """One package's wheel in an empty environment: imports, --help, a real command, no stowaway."""
    family = [package, *siblings(package)]
    wheels = Path(session.create_tmp()) / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    for name in family:
        # Through the source distribution, as a release is built; the cache knows no change of sources.
        session.run_install("uv", "build", "--quiet", f"--package={name}", f"--out-dir={wheels}")
    locked = wheels / "locked.txt"
    export = ["uv", "export", "--quiet", "--frozen", "--no-hashes", "--no-emit-workspace", "--no-default-groups"]
    session.run_install(*export, f"--package={package}", "--all-extras", f"--output-file={locked}", silent=True)
    # By path, for a name and --find-links may find an older wheel of the same version in a cache.
    paths = [str(path) for name in family for path in wheels.glob(f"{name.replace('-', '_')}-*.whl")]
    session.install(UNCOMPILED, f"--constraints={locked}", *paths)
    session.run("python", "-I", "tests/standalone/check.py", package)


@nox.session(python=PYTHON, tags=["cpu"])
@each_package
def lowest(session: nox.Session, package: str) -> None:
    """One package's tests with the oldest versions that its pyproject.toml allows: not the slow, nor all parameters."""
    family = [package, *siblings(package, with_extras=True)]
    editable = [argument for name in family for argument in ("-e", f"packages/{name}")]
    group = f"packages/{package}/pyproject.toml:test"
    session.install(UNCOMPILED, "--resolution=lowest-direct", f"--group={group}", *editable)
    # What an old library says of its newer neighbours is no news about us; other warnings stay errors.
    command = ["pytest", f"packages/{package}/tests", "-m", FAST, *PARALLEL, "-W", "ignore::DeprecationWarning"]
    session.run(*command, *FIRST_AND_LAST, *session.posargs, env=SOON_COMPILED | FIRST_AND_LAST_PATH)


@nox.session(python=PYTHON, tags=["cpu"])
def oracles(session: nox.Session) -> None:
    """Everything against the official PyTorch code, live; installs gigabytes."""
    install_locked(session, "--only-group=oracles")
    session.run("pytest", "tests/oracles", "-m", "oracle", *PARALLEL, *session.posargs, env=COMPILED)


@nox.session(python=PYTHON, tags=["cpu"])
def extras(session: nox.Session) -> None:
    """What gptoss-train does with optional libraries: Hugging Face datasets, TensorBoard, Google's storage."""
    optional = [f"--extra={name}" for name in ("datasets", "gcs", "tensorboard")]
    install_locked(session, "--package=gptoss-train", *optional, "--group=test", "--group=storage")
    names = ("data/sources/test_huggingface", "test_cloud_storage", "test_sinks")
    tests = [f"packages/gptoss-train/tests/{name}.py" for name in names]
    session.run("pytest", *tests, *session.posargs, env=COMPILED)


@nox.session(python=PYTHON, tags=["cpu"], default=False)
@nox.parametrize("runtime", [nox.param(version, id=version) for version in ("1.20.1", "1.24.4", "newest")])
def ort_versions(session: nox.Session, runtime: str) -> None:
    """Exports in one ONNX Runtime, of the oldest that will do to the newest, against the same goldens."""
    install_locked(session, "--package=gptoss-onnx", "--group=test")
    session.install(*(["--upgrade", "onnxruntime"] if runtime == "newest" else [f"onnxruntime=={runtime}"]))
    tests = [f"packages/gptoss-onnx/tests/{name}.py" for name in ("test_runtime", "test_generation", "test_session")]
    session.run("pytest", *tests, "-m", FAST, *session.posargs)


@nox.session(python=PYTHON, tags=["cpu"], default=False)
def genai(session: nox.Session) -> None:
    """Exports in onnxruntime-genai, as they are."""
    install_locked(session, "--package=gptoss-onnx", "--group=test")
    session.install("--upgrade", "onnxruntime-genai", "onnxruntime")
    session.run("pytest", "packages/gptoss-onnx/tests/test_genai.py", *session.posargs)


@nox.session(python=PYTHON, tags=["cpu"], default=False)
def maxtext(session: nox.Session) -> None:
    """Our Orbax trees in MaxText, and its own back in ours; installs gigabytes beside the lock."""
    theirs = Path(session.create_tmp()) / "maxtext"
    session.run_install("uv", "venv", "--quiet", "--clear", f"--python={PYTHON}", str(theirs))
    # Alone it installs nothing that it imports; [tpu] runs on a CPU as well.
    session.run_install("uv", "pip", "install", "--quiet", f"--python={theirs}", "maxtext[tpu]==0.2.5")
    install_locked(session, "--only-group=workspace")
    session.run("python", "tests/maxtext/check.py", str(theirs / "bin" / "python"))


@nox.session(python=PYTHON, tags=["cpu"], default=False)
def bench(session: nox.Session) -> None:
    """Every benchmark: packages/*/benchmarks/bench_*.py, one after the other."""
    scripts = sorted(ROOT.glob("packages/*/benchmarks/bench_*.py"))
    if not scripts:
        session.error("there is no packages/*/benchmarks/bench_*.py")
    install_locked(session, "--only-group=oracles")
    for script in scripts:
        session.run("python", str(script.relative_to(ROOT)), *session.posargs)


@nox.session(python=PYTHON, tags=["cpu"], default=False)
def fuzz(session: nox.Session) -> None:
    """The readers of foreign bytes under a coverage-guided fuzzer: one by name, or all for half a minute each."""
    install_locked(session, "--only-group=fuzz")
    session.run("python", "packages/gptoss-weights/fuzz/fuzz_readers.py", *session.posargs)


@nox.session(python=PYTHON, tags=["cuda"], default=False)
@each_jax_package
def test_cuda(session: nox.Session, package: str) -> None:
    """One package's tests on an NVIDIA GPU."""
    if not Path("/dev/nvidia0").exists():
        session.skip("this machine has no NVIDIA GPU (there is no /dev/nvidia0)")
    install_locked(session, f"--package={package}", "--group=test", "--extra=cuda")
    run_on(session, package, "cuda", "not oracle and not tpu")


@nox.session(python=PYTHON, tags=["tpu"], default=False)
@each_jax_package
def test_tpu(session: nox.Session, package: str) -> None:
    """One package's tests on a TPU."""
    if not (Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()):
        session.skip("this machine has no TPU (there is neither /dev/accel0 nor /dev/vfio/0)")
    install_locked(session, f"--package={package}", "--group=test", "--extra=tpu")
    run_on(session, package, "tpu", "not oracle and not cuda")


def install_locked(session: nox.Session, *selection: str) -> None:
    """Make the session's environment hold exactly the selected groups, at the versions of uv.lock."""
    venv = session.virtualenv.location
    sync = ["uv", "sync", "--quiet", "--frozen", UNCOMPILED, "--no-default-groups", f"--python={venv}"]
    session.run_install(*sync, *selection, env={"UV_PROJECT_ENVIRONMENT": venv})


def run_on(session: nox.Session, package: str, platform: str, markers: str) -> None:
    """Run a package's tests with JAX on one platform, which JAX must find."""
    session.run("pytest", f"packages/{package}/tests", "-m", markers, *session.posargs, env={"JAX_PLATFORMS": platform})


def siblings(package: str, *, with_extras: bool = False) -> list[str]:
    """The workspace packages that one needs, directly or not, nearest first."""
    project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]
    requirements = list(project["dependencies"])
    if with_extras:
        requirements += [line for extra in project.get("optional-dependencies", {}).values() for line in extra]
    needed: list[str] = []
    for name in PACKAGES:
        if name != package and any(line.startswith((f"{name}=", f"{name}[")) for line in requirements):
            needed += [name, *siblings(name, with_extras=with_extras)]
    return list(dict.fromkeys(needed))
