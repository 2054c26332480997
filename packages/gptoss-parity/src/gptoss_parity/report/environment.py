"""Where a report was made: what could change a number beside the versions that stand in each trace."""

import importlib.metadata
import os
import platform

__all__ = ["environment"]


def environment() -> dict[str, str]:
    """Python, machine and cores; the same for every report of one process."""
    return {
        "gptoss-parity": importlib.metadata.version("gptoss-parity"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
    }
