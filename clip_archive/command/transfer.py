"""Commands that move whole archives: import, export."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..archive import Archive
from ..exporting import Export
from ..importing.items import ImportFailure
from ..importing.plan import Plan, Result
from ..importing.run import Options, run
from ..writing import ExportFile, write_numpy
from .frame import REFUSED, SOME_FAILED, Output, fail, json_option, plain, with_archive


@click.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--include", multiple=True, metavar="PATTERN", help="Only files that match, as in '*.jpg'; repeatable.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No files that match; repeatable.")
@click.option("--prefix", default="", help="What every id begins with.")
@click.option("--delimiter", help="Of a CSV; known by its header when not said.")
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="As in path=filename; repeatable.")
@click.option("--delete", is_flag=True, help="Erase what earlier imports of a path brought and is not there any more.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--retry-failed", is_flag=True, help="Try what the archive has refused for good once more.")
@click.option("--all", "send_all", is_flag=True, help="Send also what the journal says is there.")
@click.option("--shrink", type=click.IntRange(224), metavar="PX", help="Send pictures with at most so long a side.")
@click.option("--at-once", type=click.IntRange(1, 256), default=64, show_default=True, help="Contents under way.")
@click.option("--patience", type=click.FloatRange(0), default=120.0, help="Seconds the archive may take nothing.")
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path), help="Where to remember what is done.")
@click.option("--failed", type=click.Path(dir_okay=False, path_type=Path), help="Where to list what failed.")
@with_archive
def import_(
    archive: Archive,
    output: Output,
    paths: Sequence[Path],
    columns: Sequence[str],
    dry_run: bool,
    retry_failed: bool,
    send_all: bool,
    at_once: int,
    patience: float,
    **told: Any,
) -> None:
    """Add what lies in folders, tables (CSV, JSONL), tars of webdataset, and exports.

    It may be interrupted at any time: the same command goes on where it was, and a second run sends only what is new or
    changed. What fails is listed, with the reason, in a file that import itself reads again. docs/import.md tells all.

    \b
    clip-archive import photographs/
    clip-archive import photographs/ --include '*.jpg' --delete
    clip-archive import captions.csv --column text=caption
    clip-archive import 00000.tar 00001.tar
    clip-archive import archive.ndjson
    """
    pairs = [each.partition("=") for each in columns]
    if any(not equals or not theirs for _, equals, theirs in pairs):
        raise click.UsageError("--column is said as in path=filename")
    plan = Plan(at_once, patience, retry_failed, send_all, dry_run)
    options = Options(columns={ours: theirs for ours, _, theirs in pairs}, plan=plan, **told)
    try:
        result, letters, erased = run(archive, paths, options, quiet=output.as_json or not sys.stderr.isatty())
    except ImportFailure as error:
        click.echo(f"clip-archive: {plain(str(error))}", err=True)
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        click.echo("clip-archive: interrupted; the same command goes on where it was", err=True)
        sys.exit(130)
    _tell(output, result, letters, erased, dry_run)


def _tell(output: Output, result: Result, letters: Path | None, erased: int, dry_run: bool) -> None:
    became = {word: count for word, count in result.became.items() if count} | ({"erased": erased} if erased else {})
    words = ", ".join(f"{count} {word}" for word, count in became.items()) or "nothing found"
    told = {"found": result.found, **became, "dry_run": dry_run, "letters": str(letters) if letters else None}
    output.one(told, ("would be: " if dry_run else "") + words)
    failed = result.became["failed"] + result.became["failed before"]
    if letters is not None:
        click.echo(f"clip-archive: {failed} not in the archive: {plain(str(letters))} says why", err=True)
    if result.stopped is not None:
        click.echo("clip-archive: stopped; the same command goes on where it was", err=True)
        fail(result.stopped)
    if not result.found:
        click.echo("clip-archive: nothing to import was found there", err=True)
        sys.exit(REFUSED)
    if failed:
        sys.exit(SOME_FAILED)


@click.command()
@click.argument("target", default="-", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--vectors", is_flag=True, help="With vectors: another archive needs no model to take them.")
@click.option("--previews", is_flag=True, help="With their previews.")
@click.option("--originals", is_flag=True, help="With the bytes of texts; pictures are had one by one.")
@click.option("--numpy", "as_numpy", is_flag=True, help="A folder with vectors.npy and contents.jsonl.")
@click.option("--user", help="Only what this user added.")
@click.option("--type", "type_", type=click.Choice(["text", "image"]), help="Only contents of this type.")
@click.option("--filter", "filter_", metavar="JSON", help="Only what passes; docs/filters.md.")
@with_archive
def export(
    archive: Archive,
    output: Output,
    target: Path,
    vectors: bool,
    previews: bool,
    originals: bool,
    as_numpy: bool,
    user: str | None,
    type_: Any,
    filter_: str | None,
) -> None:
    """Write all that is stored as lines of JSON, to a file or to the pipe; an admin's key may.

    What breaks off is asked on for; an export to a file that was interrupted goes on where it was.

    \b
    clip-archive export | jq .id
    clip-archive export archive.ndjson --vectors --previews --originals
    clip-archive export folder --numpy
    """
    chosen = {"user": user, "type": type_, "filter": json_option(filter_, "--filter")}
    if as_numpy:
        if str(target) == "-":
            raise click.UsageError("--numpy writes a folder: name it")
        count = write_numpy(target, archive.export(**chosen, vectors=True))
        output.one({"contents": count}, f"{count} contents written to {target}")
        return
    with_what: dict[str, Any] = {"vectors": vectors, "previews": previews, "originals": originals}
    if str(target) == "-":
        stream = sys.stdout.buffer
        for line, found in archive.export_lines(Export(**chosen, **with_what)):
            if found is not None:
                stream.write(line + b"\n")
        stream.flush()
        return
    with ExportFile(target) as file:
        wanted = Export(**chosen, after=file.after, **with_what)
        for line, found in archive.export_lines(wanted):
            file.write(line, found)
    output.one({"contents": file.count}, f"{file.count} contents written to {target}")
