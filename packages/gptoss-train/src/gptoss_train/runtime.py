"""JAX as the commands start it: over several hosts where a launcher says so, and with a cache of compiled programs."""

import gc
import importlib.util
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from gptoss_train.memory import uncollected

__all__ = ["importing", "start_jax"]

COORDINATOR = "JAX_COORDINATOR_ADDRESS"
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
XLA_VARIABLE = "XLA_FLAGS"
# On CPUs a short run is compiling for the most part. Without unrolled loops it takes six sevenths of that, and a step
# is no slower, for what takes time in it is a library's. `jit` has no option for it.
CPU_FLAG = "--xla_backend_extra_options=xla_cpu_disable_loop_unrolling"
NUMPY_THREADS = "OPENBLAS_NUM_THREADS"  # read when NumPy is imported
ACCELERATORS = ("jax_plugins", "libtpu")  # packages without which JAX has nothing but CPUs


@contextmanager
def importing(*, without: Collection[str] = ()) -> Iterator[None]:
    """Imports without collecting garbage, neither now nor later: what they make stays, and is most of all there is.

    JAX, Flax and Orbax make a million objects. Going through them again and again is a twelfth of the way to the
    first step. NumPy's products get no threads of their own, for no command asks for such products, and to begin
    those threads wait busily for as long as it takes to import NumPy.

    Args:
        without: Packages that are not found in the meantime, unless they are imported already: those that others
            look for only in order to add to them.
    """
    threads = os.environ.get(NUMPY_THREADS)
    hidden = [name for name in without if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # how Python says that there is none
    os.environ.setdefault(NUMPY_THREADS, "1")
    try:
        with uncollected():
            yield
            gc.freeze()
    finally:
        for name in hidden:
            del sys.modules[name]
        if threads is None:
            del os.environ[NUMPY_THREADS]


def start_jax() -> None:
    """Joins the other processes, if the environment names a coordinator, and keeps compiled programs.

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say which process this is; on clusters that
    JAX knows the first alone is enough. JAX_COMPILATION_CACHE_DIR says where programs are kept; empty: nowhere.
    On CPUs loops are not unrolled, unless XLA_FLAGS has such options already, and on one device a step runs in the
    thread that asks for it, which waits for it anyway and can keep its memory (`keep_memory`).
    """
    import jax

    if _has_cpus_only():  # both are read when the first device is looked for
        flags = os.environ.get(XLA_VARIABLE, "")
        if CPU_FLAG.partition("=")[0] not in flags:
            os.environ[XLA_VARIABLE] = f"{flags} {CPU_FLAG}".strip()
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    if os.environ.get(COORDINATOR):
        number, count = os.environ.get("JAX_PROCESS_ID"), os.environ.get("JAX_NUM_PROCESSES")
        jax.distributed.initialize(
            coordinator_address=os.environ[COORDINATOR],
            num_processes=None if count is None else int(count),
            process_id=None if number is None else int(number),
        )
    folder = _cache_folder()
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))


def _has_cpus_only() -> bool:
    """Whether JAX will run on CPUs, as far as that can be told without looking for devices."""
    platforms = os.environ.get("JAX_PLATFORMS")
    if platforms:
        return platforms == "cpu"
    return not any(importlib.util.find_spec(name) for name in ACCELERATORS)


def _cache_folder() -> Path | None:
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "gptoss-train" / "compiled"
    except RuntimeError:  # nobody has no home
        return None
