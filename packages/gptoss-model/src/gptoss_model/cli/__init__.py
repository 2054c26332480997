"""The `gptoss-model` command: one module a subcommand, imported when it runs."""

import click
from gptoss_weights.cli_errors import ErrorMappingGroup

__all__ = ["main"]


@click.group(
    cls=ErrorMappingGroup,
    lazy_commands={
        "benchmark": "gptoss_model.cli.benchmark:benchmark_command",
        "chat": "gptoss_model.cli.chat:chat_command",
        "doctor": "gptoss_model.cli.doctor:doctor_command",
        "generate": "gptoss_model.cli.generate:generate_command",
        "logits": "gptoss_model.cli.logits:logits_command",
        "plan": "gptoss_model.cli.plan:plan_command",
    },
)
@click.version_option(package_name="gptoss-model")
def main() -> None:
    """Run GPT-OSS in JAX."""
