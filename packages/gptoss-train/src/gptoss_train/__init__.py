"""Trains GPT-OSS in JAX.

    config = load_config("tiny", ["steps=20"])
    run = set_up(config, "pretrain")
    outcome = train(run, iter(open_data(run, config.data)))
    save_checkpoint(quantized(open_run("runs/tiny").checkpoint()), "tiny-hf", format="hf", dtype="bfloat16")

Further modules: `data` (records, conversations, packing), `preview`, `planning`, `peft_format`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptoss_train.batch import Batch
    from gptoss_train.config import TrainConfig, load_config
    from gptoss_train.errors import ConfigError, TrainingError
    from gptoss_train.going_home import FinishedRun, open_run
    from gptoss_train.loop import Outcome, train
    from gptoss_train.planning import RunPlan, plan_run
    from gptoss_train.setup import Run, open_data, set_up
    from gptoss_train.state import TrainState

__all__ = [
    "Batch",
    "ConfigError",
    "FinishedRun",
    "Outcome",
    "Run",
    "RunPlan",
    "TrainConfig",
    "TrainState",
    "TrainingError",
    "load_config",
    "open_data",
    "open_run",
    "plan_run",
    "set_up",
    "train",
]

# Imported when first asked for: `--help` and wrong arguments must not wait seconds for JAX.
_CONTENTS = {
    "batch": "Batch",
    "config": "TrainConfig load_config",
    "errors": "ConfigError TrainingError",
    "going_home": "FinishedRun open_run",
    "loop": "Outcome train",
    "planning": "RunPlan plan_run",
    "setup": "Run open_data set_up",
    "state": "TrainState",
}
_MODULE_OF = {name: module for module, names in _CONTENTS.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
