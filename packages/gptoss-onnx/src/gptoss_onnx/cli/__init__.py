"""The `gptoss-onnx` command: one module a command, each imported when it is called."""

import click
from gptoss_weights.cli_errors import ErrorMappingGroup

__all__ = ["main"]


@click.group(
    cls=ErrorMappingGroup,
    lazy_commands={
        "benchmark": "gptoss_onnx.cli.benchmark:benchmark_command",
        "chat": "gptoss_onnx.cli.chat:chat_command",
        "doctor": "gptoss_onnx.cli.doctor:doctor_command",
        "export": "gptoss_onnx.cli.export:export_command",
        "inspect": "gptoss_onnx.cli.inspect:inspect_command",
        "run": "gptoss_onnx.cli.run:run_command",
    },
)
@click.version_option(package_name="gptoss-onnx")
def main() -> None:
    """Builds GPT-OSS as ONNX and runs it in ONNX Runtime, with neither JAX nor PyTorch.

    \b
    Examples:
      gptoss-onnx export gpt-oss-20b gpt-oss-20b-onnx
      gptoss-onnx run gpt-oss-20b-onnx --prompt "The capital of France is"
      gptoss-onnx chat gpt-oss-20b-onnx

    Exit codes: 0 ok, 1 internal error, 2 usage, 3 bad or corrupt input, 4 an export that --validate found
    wrong, 5 missing dependency or device, 6 not enough memory or disk, 130 or 143 interrupted.
    """  # noqa: D301 - the backslash is meant for click
