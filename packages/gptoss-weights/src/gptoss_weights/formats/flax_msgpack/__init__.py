"""The staged bundle of the jax2onnx workflow: a Flax tree in a `.msgpack` file, its config beside it.

    <stem>.msgpack        written by flax.serialization, read and written here without flax or JAX
    <stem>.config.json    the flat dialect of `original/config.json`

`heads` knows msgpack, `index` and `encoding` what flax makes of it, `tree` which leaf is which
parameter; `opening` and `writing` put them together.
"""

from gptoss_weights.formats.flax_msgpack.opening import open_flax
from gptoss_weights.formats.flax_msgpack.tree import flax_config_path
from gptoss_weights.formats.flax_msgpack.writing import FlaxDtype, flax_bytes, plan_flax_file_sizes, write_flax

__all__ = ["FlaxDtype", "flax_bytes", "flax_config_path", "open_flax", "plan_flax_file_sizes", "write_flax"]
