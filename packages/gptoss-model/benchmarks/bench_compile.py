"""Compile time by depth, of a forward pass and of a decoding step, scanned and unscanned.

Widths are tiny: what is compiled does not depend on them. Each program is traced, lowered and
compiled from shapes alone, without JAX's compilation cache; the table shows wall seconds, CPU
seconds of the process, and the number of operations in the compiled program.
"""

import time
from collections.abc import Callable, Iterator

import click
import jax
import jax.numpy as jnp
from gptoss_model import GptOss, KVCache, abstract_model, init_cache
from gptoss_weights.testing import tiny_config


def programs(model: GptOss, tokens: int) -> Iterator[tuple[str, Callable[[], jax.stages.Lowered]]]:
    """Each program's name, and how to lower it."""
    config = model.config
    cache: KVCache = init_cache(config, 1, 2 * tokens, model.dtype, scan_layers=model.scan_layers)
    one, mask = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)

    def decode(model: GptOss, cache: KVCache) -> tuple[jax.Array, KVCache]:
        x, cache = model.extend(one, mask, cache)
        return model.unembed(x[:, -1]), cache

    prompt = jax.ShapeDtypeStruct((1, tokens), jnp.int32)
    yield "forward", lambda: jax.jit(lambda model, tokens: model(tokens).logits).lower(model, prompt)
    yield "decode", lambda: jax.jit(decode, donate_argnums=1).lower(model, cache)


@click.command
@click.option("--layers", type=int, multiple=True, default=(2, 8, 24, 36), show_default=True, help="Even numbers.")
@click.option("--tokens", type=click.IntRange(1), default=64, show_default=True, help="Of the prompt.")
def main(layers: tuple[int, ...], tokens: int) -> None:
    """Compares compile times of scanned and unscanned models."""
    jax.config.update("jax_enable_compilation_cache", False)
    click.echo(f"{'program':8} {'layers':>6} {'scanned':>8} {'wall s':>8} {'CPU s':>8} {'operations':>10}")
    for depth in layers:
        for scan_layers in (True, False):
            model = abstract_model(tiny_config(num_hidden_layers=depth), scan_layers=scan_layers)
            for name, lower in programs(model, tokens):
                wall, cpu = time.perf_counter(), time.process_time()
                compiled = lower().compile()
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                operations = (compiled.as_text() or "").count(" = ")
                answer = "yes" if scan_layers else "no"
                click.echo(f"{name:8} {depth:6} {answer:>8} {wall:8.1f} {cpu:8.1f} {operations:10}")


if __name__ == "__main__":
    main()
