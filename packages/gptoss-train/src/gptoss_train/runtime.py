"""JAX as the commands start it: over several hosts where a launcher says so, and with a cache of compiled programs."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["importing", "start_jax"]

COORDINATOR = "JAX_COORDINATOR_ADDRESS"
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


@contextmanager
def importing() -> Iterator[None]:
    """Imports without collecting garbage, neither now nor later: what they make stays, and is most of all there is.

    JAX, Flax and Orbax make a million objects. Going through them again and again is a twelfth of the way to the
    first step.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def start_jax() -> None:
    """Joins the other processes, if the environment names a coordinator, and keeps compiled programs.

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say which process this is; on clusters that
    JAX knows the first alone is enough. JAX_COMPILATION_CACHE_DIR says where programs are kept; empty: nowhere.
    """
    import jax

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


def _cache_folder() -> Path | None:
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "gptoss-train" / "compiled"
    except RuntimeError:  # nobody has no home
        return None
