"""The `gptoss-parity` command; each subcommand is imported when it is asked for."""

import click
from gptoss_weights.cli_errors import ErrorMappingGroup

__all__ = ["main"]

_COMMANDS = {
    "compare": "gptoss_parity.cli.compare:compare_command",
    "demo": "gptoss_parity.cli.demo:demo_command",
    "golden": "gptoss_parity.cli.golden:golden_command",
    "record": "gptoss_parity.cli.record:record_command",
    "selftest": "gptoss_parity.cli.selftest:selftest_command",
    "verify": "gptoss_parity.cli.verify:verify_command",
}


@click.group(cls=ErrorMappingGroup, lazy_commands=_COMMANDS)
@click.version_option(package_name="gptoss-parity")
def main() -> None:
    """Measures one GPT-OSS implementation against another."""
