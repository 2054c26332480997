"""The `gptoss-train` command; each subcommand is imported when it is asked for."""

import click
from gptoss_weights.cli_errors import ErrorMappingGroup

__all__ = ["main"]

_COMMANDS: dict[str, str] = {
    "preview": "gptoss_train.cli.preview:preview_command",
}


@click.group(cls=ErrorMappingGroup, lazy_commands=_COMMANDS)
@click.version_option(package_name="gptoss-train")
def main() -> None:
    """Trains GPT-OSS in JAX."""
