"""What each process of `test_two_processes.py` runs: load its part, run the model, write what it saw."""

import json
import sys
from pathlib import Path

import jax

process, coordinator, checkpoint_path, output, rules = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(coordinator, num_processes=2, process_id=int(process), initialization_timeout=60)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from gptoss_model import generate, load_model, make_mesh  # noqa: E402
from gptoss_weights import Checkpoint, open_checkpoint  # noqa: E402
from jax.experimental import multihost_utils  # noqa: E402


class Counted(Checkpoint):
    """A checkpoint that adds up the bytes that are read of each tensor."""

    format = "counted"

    def __init__(self, checkpoint):
        self._checkpoint, self.config, self.side_files = checkpoint, checkpoint.config, {}
        self.bytes = dict.fromkeys(checkpoint, 0)

    def array_dtype(self, name):
        return self._checkpoint.array_dtype(name)

    def read(self, name, index=()):
        part = self._checkpoint.read(name, index)
        self.bytes[name] += part.nbytes
        return part


checkpoint = Counted(open_checkpoint(checkpoint_path))
model = load_model(checkpoint, dtype=jnp.float32, mesh=make_mesh(rules))
prompts = np.arange(8 * 20).reshape(8, 20) * 7 % 212
logits = model(prompts).logits
np.save(f"{output}/logits{process}.npy", multihost_utils.process_allgather(logits, tiled=True))
beginnings = [row[: 3 + number].tolist() for number, row in enumerate(prompts)]
report = {
    "devices": jax.device_count(),
    "bytes": checkpoint.bytes,
    "prompts": prompts.tolist(),
    "beginnings": beginnings,
    "tokens": generate(model, beginnings, max_new_tokens=14),
}
Path(output, f"report{process}.json").write_text(json.dumps(report))
jax.distributed.shutdown()
