"""Where compiled programs are kept between runs of a command, so that only the first one waits for the compiler.

JAX stores a program that took longer than a second to compile, under a key of everything it
depends on. The variable JAX_COMPILATION_CACHE_DIR says where, or that nothing is kept if it is
empty; otherwise it is the user's folder for caches.
"""

import os
from pathlib import Path

__all__ = ["CACHE_VARIABLE", "cache_folder", "use_compilation_cache"]

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def cache_folder() -> Path | None:
    """Where compiled programs are kept; None if nowhere."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "gptoss-model" / "compiled"
    except RuntimeError:  # nobody has no home
        return None


def use_compilation_cache(*, is_wanted: bool) -> None:
    """Has JAX keep what it compiles, if that is wanted and there is a folder that may be written to."""
    import jax

    folder = cache_folder() if is_wanted else None
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            folder = None
    is_writable = folder is not None and os.access(folder, os.W_OK)
    jax.config.update("jax_compilation_cache_dir", str(folder) if is_writable else None)
