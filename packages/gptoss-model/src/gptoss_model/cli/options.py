"""Options that the commands share: which model, and how it is run.

@model_options
def command(source: ModelSource, …):
    checkpoint = source.open()
    …                             # refuse what cannot be, before minutes of loading
    model = source.load(checkpoint)
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from gptoss_weights.cli_parameters import CHECKPOINT_PATH

from gptoss_model.cli.compilation_cache import use_compilation_cache
from gptoss_model.cli.status import status
from gptoss_model.strategy_names import ATTENTION_NAMES, AUTO, MOE_NAMES

if TYPE_CHECKING:
    from gptoss_weights import Checkpoint
    from jax.sharding import Mesh

    from gptoss_model.loading import ExpertForm
    from gptoss_model.model import GptOss

__all__ = ["ModelSource", "as_json", "max_length_option", "model_options", "prefill_length_option"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A checkpoint, and how to make a model of it; the options of `model_options`."""

    checkpoint: Path | str
    config: Path | None
    dtype: str
    experts: "ExpertForm"
    moe: str
    attention: str
    scan_layers: bool | None
    mesh: str | None
    compilation_cache: bool

    def open(self) -> "Checkpoint":
        """Opens the checkpoint, and refuses a mesh that cannot be.

        Raises:
            CheckpointError: it cannot be opened.
            click.BadParameter: the rules of the mesh are none.
        """
        from gptoss_weights import open_checkpoint

        if self.mesh is not None:
            from gptoss_model.sharding.rules import MeshRules

            try:
                MeshRules.parse(self.mesh)
            except ValueError as error:
                raise click.BadParameter(str(error), param_hint="'--mesh'") from None
        return open_checkpoint(self.checkpoint, config=self.config)

    def load(self, checkpoint: "Checkpoint") -> "GptOss":
        """Loads the model.

        Raises:
            CheckpointError: the experts are not in the wanted form.
            MissingDependencyError: this machine cannot run a strategy, or lacks the devices of the mesh.
            click.UsageError: the mesh does not divide the model, or its layers cannot be scanned.
        """
        from gptoss_model.loading import load_model

        use_compilation_cache(is_wanted=self.compilation_cache)
        mesh = None if self.mesh is None else _mesh(self.mesh)
        with status(f"loading {self.checkpoint}"):
            try:
                return load_model(
                    checkpoint,
                    dtype=self.dtype,
                    experts=self.experts,
                    moe=self.moe,
                    attention=self.attention,
                    scan_layers=self.scan_layers,
                    mesh=mesh,
                )
            except ValueError as error:  # an argument that does not go with this checkpoint
                raise click.UsageError(str(error)) from None


def _mesh(rules: str) -> "Mesh":
    from gptoss_weights import MissingDependencyError

    from gptoss_model.sharding.mesh import make_mesh

    try:
        return make_mesh(rules)
    except ValueError as error:
        raise MissingDependencyError(str(error)) from None


def model_options[Function: Callable[..., Any]](command: Function) -> Callable[..., Any]:
    """The argument CHECKPOINT and the options that say how to run it, handed over as one `source`."""
    names = [field.name for field in dataclasses.fields(ModelSource)]

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        source = ModelSource(**{name: kwargs.pop(name) for name in names})
        return command(*args, source=source, **kwargs)

    for option in reversed(_MODEL_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


_MODEL_OPTIONS = (
    click.argument("checkpoint", type=CHECKPOINT_PATH),
    click.option(
        "--dtype",
        type=click.Choice(["bfloat16", "float32"]),
        default="bfloat16",
        show_default=True,
        help="Dtype of activations and of what is not packed.",
    ),
    click.option(
        "--experts",
        type=click.Choice(["stored", "mxfp4", "decoded"]),
        default="stored",
        show_default=True,
        help="Form of the expert matrices in memory.",
    ),
    click.option(
        "--moe",
        type=click.Choice(MOE_NAMES),
        default=AUTO,
        show_default=True,
        metavar="STRATEGY",
        help=f"How the experts are run: {', '.join(MOE_NAMES)}; doctor says which of them can run here.",
    ),
    click.option(
        "--attention",
        type=click.Choice(ATTENTION_NAMES),
        default=AUTO,
        show_default=True,
        metavar="STRATEGY",
        help=f"How attention is run: {', '.join(ATTENTION_NAMES)}; doctor says which of them can run here.",
    ),
    click.option(
        "--scan-layers/--no-scan-layers",
        default=None,
        help="Compile one pair of layers and loop over it, or compile every layer by itself. Scanned, deep models "
        "compile as fast as shallow ones; it is the default where that can be.",
    ),
    click.option(
        "--mesh",
        metavar="RULES",
        help="Split the model over devices, such as data=2,tensor=4 (axes: data, fsdp, expert, tensor).",
    ),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A config.json in either dialect, if it does not stand in the folder.",
    ),
    click.option(
        "--compilation-cache/--no-compilation-cache",
        default=True,
        show_default=True,
        help="Keep compiled programs for the next run; doctor says where.",
    ),
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")


prefill_length_option = click.option(
    "--prefill-length",
    type=click.IntRange(min=1),
    metavar="N",
    help="Feed prompts in pieces of just N tokens, padded; by default up to 512, in padded sizes.",
)
max_length_option = click.option(
    "--max-length",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens of the KV cache, prompt and answer together; by default what is needed, padded.",
)
