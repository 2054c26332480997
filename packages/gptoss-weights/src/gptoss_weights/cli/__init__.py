"""The `gptoss-weights` command: one module a command, each imported when it is called."""

import click

from gptoss_weights.cli_errors import ErrorMappingGroup

__all__ = ["main"]


@click.group(
    cls=ErrorMappingGroup,
    lazy_commands={
        "convert": "gptoss_weights.cli.convert:convert",
        "doctor": "gptoss_weights.cli.doctor:doctor",
        "download": "gptoss_weights.cli.download:download",
        "inspect": "gptoss_weights.cli.inspect:inspect",
        "random": "gptoss_weights.cli.random:random",
        "verify": "gptoss_weights.cli.verify:verify",
    },
)
@click.version_option(package_name="gptoss-weights", prog_name="gptoss-weights")
def main() -> None:
    """Reads and writes GPT-OSS checkpoints, with neither JAX nor PyTorch.

    CHECKPOINT is a folder in OpenAI's layout (original/) or Hugging Face's, with MXFP4 or plain experts;
    a .msgpack bundle of Flax; or an Orbax tree of MaxText, which may be behind a URL.

    \b
    Examples:
      gptoss-weights download openai/gpt-oss-20b
      gptoss-weights inspect gpt-oss-20b
      gptoss-weights verify gpt-oss-20b/original
      gptoss-weights convert gpt-oss-20b/original bf16 --to hf-bf16
      gptoss-weights doctor

    Exit codes: 0 ok, 1 internal error, 2 usage, 3 bad or corrupt input, 5 missing dependency,
    6 not enough memory or disk, 7 network, 130 or 143 interrupted.
    """  # noqa: D301 - the backslash is meant for click
