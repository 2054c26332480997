"""The `gptoss-train` command; each subcommand is imported when it is asked for."""

import click
from gptoss_weights.cli_errors import ErrorMappingGroup

__all__ = ["main"]

_COMMANDS: dict[str, str] = {
    "doctor": "gptoss_train.cli.doctor:doctor_command",
    "evaluate": "gptoss_train.cli.evaluate:evaluate_command",
    "export": "gptoss_train.cli.export:export_command",
    "finetune": "gptoss_train.cli.train:finetune_command",
    "lora": "gptoss_train.cli.train:lora_command",
    "merge": "gptoss_train.cli.merge:merge_command",
    "plan": "gptoss_train.cli.plan:plan_command",
    "pretrain": "gptoss_train.cli.train:pretrain_command",
    "preview": "gptoss_train.cli.preview:preview_command",
    "sft": "gptoss_train.cli.train:sft_command",
}


@click.group(cls=ErrorMappingGroup, lazy_commands=_COMMANDS)
@click.version_option(package_name="gptoss-train")
def main() -> None:
    """Trains GPT-OSS in JAX."""
