"""The main job in one call: the embedded checkpoint through JAX and ONNX Runtime, against the official code.

Nothing is downloaded and no PyTorch is needed: what the official code computes was recorded into
the goldens that come with the checkpoint.
"""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from gptoss_weights.demo import DEMO_PROMPT, demo_checkpoint, demo_golden_path
from gptoss_weights.text import load_tokenizer

from gptoss_parity.compare import Comparison, compare
from gptoss_parity.report import Continuation, Report, write_report
from gptoss_parity.sources import Dtype, GenerativeSource, GoldenSource, make_source
from gptoss_parity.trace import Trace, save_trace

__all__ = ["record_demo_golden", "run_demo"]

NEW_TOKENS = 16
_RUNS: tuple[tuple[str, Dtype], ...] = (("jax", "float32"), ("onnx", "float32"), ("jax", "bfloat16"))
_GENERATORS = ("jax", "onnx")


def run_demo(output: Path, *, command: str | None = None, progress: Callable[[str], None] = lambda _: None) -> Report:
    """Runs everything and writes `report.html`, `report.json` and the traces into a folder.

    Args:
        output: The folder; of what it holds, only the demo's own files are replaced.
        command: How the demo was called, for the report.
        progress: Is told what begins.

    Raises:
        MissingDependencyError: an extra of `gptoss-parity[jax,onnx,text]` is not installed.
    """
    sources = {name: cast(GenerativeSource, make_source(name)) for name in _GENERATORS}
    checkpoint = demo_checkpoint()
    tokenizer = load_tokenizer(checkpoint)
    tokens = tokenizer.encode(DEMO_PROMPT)

    goldens: dict[Dtype, Trace] = {}
    comparisons: list[Comparison] = []
    for name, dtype in _RUNS:
        progress(f"{name} in {dtype}: {len(tokens)} tokens, every probe")
        if dtype not in goldens:
            goldens[dtype] = GoldenSource(demo_golden_path(dtype)).record(checkpoint, tokens, dtype=dtype)
            _save(goldens[dtype], output)
        trace = sources[name].record(checkpoint, tokens, dtype=dtype)
        _save(trace if command is None else trace.with_command(command), output)
        comparisons.append(compare(goldens[dtype], trace))

    new_tokens = {}
    for name in _GENERATORS:
        progress(f"{name}: {NEW_TOKENS} more tokens through the cache")
        new_tokens[name] = sources[name].generate(checkpoint, tokens, max_new_tokens=NEW_TOKENS)
    report = Report(
        title="GPT-OSS demo: JAX and ONNX Runtime against the official PyTorch code",
        comparisons=comparisons,
        continuation=Continuation(
            prompt=DEMO_PROMPT,
            tokens=new_tokens,
            texts={name: tokenizer.decode(ids) for name, ids in new_tokens.items()},
        ),
        command=command,
    )
    progress("report")
    write_report(report, output)
    return report


def record_demo_golden(dtype: Dtype) -> Trace:
    """What the official PyTorch code computes for the demo's prompt now; saved, it is the demo's golden.

    Raises:
        MissingDependencyError: the extra `gptoss-parity[torch]` is not installed.
    """
    checkpoint = demo_checkpoint()
    return make_source("torch").record(checkpoint, load_tokenizer(checkpoint).encode(DEMO_PROMPT), dtype=dtype)


def _save(trace: Trace, output: Path) -> None:
    save_trace(trace, output / f"{trace.metadata.source}.{trace.metadata.dtype}.safetensors")
