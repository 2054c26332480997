"""`gptoss-weights verify`: whether a checkpoint is whole, as it was written, sane, or the same as another."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptoss_weights.cli.options import as_json, checkpoint_argument, config_option
from gptoss_weights.cli_parameters import CHECKPOINT_PATH

if TYPE_CHECKING:
    from gptoss_weights.comparison import CheckpointComparison
    from gptoss_weights.manifest.report import VerificationReport

__all__ = ["verify"]

_SHOWN_FINDINGS = 20
_SHOWN_DIFFERENCES = 40
_file = click.Path(path_type=Path)

type _Place = tuple[Path | str, Path | None]  # a checkpoint, and its config if that stands elsewhere


@click.command
@checkpoint_argument
@config_option
@click.option("--manifest", type=_file, metavar="FILE", help="The manifest, if it does not stand beside the weights.")
@click.option("--write-manifest", is_flag=True, help="If the checkpoint is sound, write the manifest that it lacks.")
@click.option(
    "--against",
    type=CHECKPOINT_PATH,
    metavar="OTHER",
    help="Compare with another checkpoint, of any format, value by value.",
)
@click.option("--against-config", type=_file, metavar="FILE", help="As --config, for the other checkpoint.")
@click.option(
    "--rtol",
    type=click.FloatRange(min=0),
    default=0.0,
    help="With --against: how far a value may be from the other's, as a part of it; 0 by default.",
)
@click.option("--atol", type=click.FloatRange(min=0), default=0.0, help="With --against: the same, absolute.")
@as_json
def verify(
    checkpoint: Path | str,
    config: Path | None,
    manifest: Path | None,
    write_manifest: bool,
    against: Path | str | None,
    against_config: Path | None,
    rtol: float,
    atol: float,
    as_json: bool,
) -> None:
    """Checks that CHECKPOINT is whole, as it was written, and sane; or that it equals another.

    Holds names, shapes and dtypes against the config, and every file against the manifest, if there is
    one: a single flipped bit anywhere is found, and the file and tensor that it hit are named. Then
    reads all weights: values must be finite, and no MXFP4 scale may overflow. A config that does not
    announce packed experts is a problem too; files that the index does not list, and a wrong total_size
    in it, are warnings.

    Every conversion writes a manifest: manifest.json, or STEM.manifest.json beside STEM.msgpack. For
    what came without, --write-manifest makes one. Files that do not belong to the checkpoint, such as a
    README, may come and go. With --manifest of the same weights in another layout, tensors are held
    against it instead of files; so they are of a tree behind a URL.

    With --against, the numbers of both configs and all values are compared, packed experts with decoded
    ones too, and what differs is listed. Exit code 0 if it is sound, or equal; 3 if not.

    \b
    Examples:
      gptoss-weights verify gpt-oss-20b
      gptoss-weights verify gpt-oss-20b/original --json
      gptoss-weights verify gpt-oss-20b --write-manifest
      gptoss-weights verify gpt-oss-20b/original --manifest gpt-oss-20b/manifest.json
      gptoss-weights verify gpt-oss-20b-hf --against gpt-oss-20b/original
      gptoss-weights verify gpt-oss-20b.msgpack --against gpt-oss-20b-f32.msgpack --rtol 0.004
    """  # noqa: D301 - the backslash is meant for click
    if against is None:
        if against_config is not None or rtol or atol:
            raise click.UsageError("--against-config, --rtol and --atol need --against")
        _verify(checkpoint, config, manifest, write_manifest, as_json)
    else:
        if manifest is not None or write_manifest:
            raise click.UsageError("--against compares with a checkpoint; it goes with no manifest")
        _compare((checkpoint, config), (against, against_config), rtol, atol, as_json)


def _verify(path: Path | str, config: Path | None, manifest: Path | None, write: bool, as_json: bool) -> None:
    from gptoss_weights.errors import CheckpointError
    from gptoss_weights.manifest import find_artefact, verify_artefact

    target = None
    try:
        if write:
            artefact = find_artefact(path)
            target = manifest or artefact.manifest
            if target.exists():
                raise CheckpointError(
                    "there is a manifest already",
                    where=target,
                    fix="Verify against it; if the checkpoint was changed on purpose, remove it first.",
                )
        report = verify_artefact(path, config=config, manifest=None if write else manifest, progress=_progress)
    except CheckpointError as error:
        if as_json:
            _print_json({"checkpoint": str(path), "ok": False, "tensors_read": 0, "problems": [str(error)]})
        raise
    if report.checkpoint is not None and not report.problems and target is not None:
        _write_manifest(report, target)
    if as_json:
        written = None if target is None or report.problems else str(target)
        _print_json({**report.to_json(), "manifest_written": written})
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    if report.problems:
        raise _as_error(report)
    if not as_json:
        _print_report(report, target)


def _as_error(report: "VerificationReport") -> Exception:
    from gptoss_weights.errors import CheckpointError

    problems = report.problems
    shown = problems[:_SHOWN_FINDINGS]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    if report.is_of_another_checkpoint:
        fix = f"Is {report.manifest_path} the manifest of another checkpoint? See --json for all findings."
    elif problems == list(report.surroundings):  # which say themselves what to do
        fix = None
    elif len(problems) > 1 or not report.structure:
        fix = "Fetch the weights again; see --json for all findings."
    else:
        fix = None
    return CheckpointError("; ".join(shown), fix=fix)


def _write_manifest(report: "VerificationReport", target: Path) -> None:
    from gptoss_weights.manifest import make_manifest

    assert report.checkpoint is not None
    assert report.artefact is not None
    total = sum(report.artefact.path(file).stat().st_size for file in report.artefact.files())
    with _progress("hashing", total) as advance:
        made = make_manifest(report.checkpoint, report.artefact, on_bytes=advance)
    made.write(target)


def _print_report(report: "VerificationReport", written: Path | None) -> None:
    assert report.checkpoint is not None
    click.echo(f"{report.path}: sound ({report.checkpoint.format}, {len(report.checkpoint)} tensors)")
    if written is not None:
        click.echo(f"{written}: written; from now on a single flipped bit is found")
    elif report.manifest is None and report.artefact is None:
        click.echo("behind a URL there is no manifest, so a changed value that is still finite goes unseen")
    elif report.manifest is None:
        click.echo(
            "there is no manifest, so a changed value that is still finite goes unseen; --write-manifest makes one"
        )
    elif not report.is_same_layout:
        click.echo(f"{report.manifest_path}: all tensors are as it says (files were not compared)")
    else:
        click.echo(f"{report.manifest_path}: all {len(report.manifest.files)} files are as it says")
        if report.unlisted:
            click.echo(f"not in the manifest: {', '.join(report.unlisted)}")


def _compare(
    a: tuple[Path | str, Path | None], b: tuple[Path | str, Path | None], rtol: float, atol: float, as_json: bool
) -> None:
    from gptoss_weights.comparison import compare_checkpoints
    from gptoss_weights.errors import CheckpointError
    from gptoss_weights.opening import open_checkpoint

    opened = [open_checkpoint(path, config=config) for path, config in (a, b)]
    with _progress("comparing", len(dict.fromkeys([*opened[0], *opened[1]]))) as advance:
        comparison = compare_checkpoints(*opened, rtol=rtol, atol=atol, on_tensor=lambda _: advance(1))
    if as_json:
        formats = [checkpoint.format for checkpoint in opened]
        sides = {"checkpoint": str(a[0]), "against": str(b[0]), "formats": formats, "rtol": rtol, "atol": atol}
        _print_json({**sides, **comparison.to_json()})
    else:
        _print_comparison(comparison)
    if not comparison.is_equal:
        raise CheckpointError(
            f"it differs in {len(comparison.differences)} of {comparison.tensors} tensors "
            f"and {len(comparison.config)} numbers of the config",
            where=f"{a[0]} against {b[0]}",
        )
    if not as_json:
        meaning = "equal" if not (rtol or atol) else f"equal within rtol {rtol:g} and atol {atol:g}"
        click.echo(
            f"{a[0]} ({opened[0].format}) and {b[0]} ({opened[1].format}): {meaning}, {comparison.tensors} tensors"
        )


def _print_comparison(comparison: "CheckpointComparison") -> None:
    for number, (one, other) in comparison.config.items():
        click.echo(f"config: {number} is {one} and {other}")
    if comparison.encoded_otherwise:
        click.echo(f"{len(comparison.encoded_otherwise)} packed tensors have other bytes and the same values")
    shown = comparison.differences[:_SHOWN_DIFFERENCES]
    if not shown:
        return
    width = max(len(difference.name) for difference in shown)
    click.echo(f"{'tensor':<{width}}  {'dtypes':<18}  {'differing':>12}  {'max abs':>9}  {'rel. L2':>9}  first at")
    for difference in shown:
        dtypes = " ".join(dtype or "-" for dtype in difference.dtypes)
        if difference.problem is not None:
            click.echo(f"{difference.name:<{width}}  {dtypes:<18}  {difference.problem}")
            continue
        one, other = difference.first_values
        click.echo(
            f"{difference.name:<{width}}  {dtypes:<18}  {difference.differing:>12}  {difference.max_abs:>9.3g}  "
            f"{difference.relative_l2:>9.3g}  {list(difference.first_index)}: {one:g} and {other:g}"
        )
    if len(comparison.differences) > len(shown):
        click.echo(f"and {len(comparison.differences) - len(shown)} more; see --json")


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, indent=2))


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=total, label=what, file=sys.stderr) as bar:
        yield bar.update
