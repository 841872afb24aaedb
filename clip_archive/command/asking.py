"""Commands that ask: search, similar, recommend."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..answers import FoundContent
from ..archive import Archive
from ..contents import Part
from .frame import Output, json_option, with_archive

_HEADS = ("SCORE", "RELEVANCE", "TYPE", "ID", "USER")


@click.command()
@click.argument("words_or_pictures", nargs=-1)
@click.option("--less", multiple=True, metavar="WORDS|PICTURE", help="Lead away from this; may be given several times.")
@click.option("-k", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many contents.")
@click.option("--type", "target", type=click.Choice(["any", "text", "image"]), default="any", help="Only these.")
@click.option("--filter", "filter_", metavar="JSON", help="Only what passes; docs/filters.md.")
@click.option("--min-relevance", type=click.FloatRange(0, 1), help="Only what is at least so far above chance.")
@click.option("--fold", is_flag=True, help="Put copies of a better hit under it.")
@with_archive
def search(
    archive: Archive,
    output: Output,
    words_or_pictures: Sequence[str],
    less: Sequence[str],
    k: int,
    target: Any,
    filter_: str | None,
    min_relevance: float | None,
    fold: bool,
) -> None:
    """Find what is most similar to words, to pictures, or to several of them taken together.

    An argument that names a file is a picture, every other is words; - reads words from the pipe.

    \b
    clip-archive search "a cat on a roof"
    clip-archive search photo.jpg "at night" --less "a dog"
    clip-archive search "a harbour" --type image --filter '{"must": [{"key": "user", "match": {"value": "ada"}}]}'
    echo "a cat on a roof" | clip-archive search - --json
    """
    parts = [_part(each, 1.0) for each in words_or_pictures]
    if not parts:
        raise click.UsageError("say what to search for: words, or the name of a picture's file")
    parts += [_part(each, -0.5) for each in less]
    found = archive.search(
        parts,
        k=k,
        target=target,
        filter=json_option(filter_, "--filter"),
        min_relevance=min_relevance,
        fold=fold or None,
    )
    output.many(found.contents, _HEADS, _row)


@click.command()
@click.argument("content_id", metavar="ID")
@click.option("-k", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many contents.")
@click.option("--type", "target", type=click.Choice(["any", "text", "image"]), default="any", help="Only these.")
@with_archive
def similar(archive: Archive, output: Output, content_id: str, k: int, target: Any) -> None:
    """Find what is most similar to a stored content.

    \b
    clip-archive similar photo-1
    clip-archive similar photo-1 --type text -k 3
    """
    output.many(archive.get_similar(content_id, k=k, target=target).contents, _HEADS, _row)


@click.command()
@click.argument("user", required=False)
@click.option("-k", type=click.IntRange(1, 100), default=10, show_default=True, help="How many contents.")
@click.option("--type", "target", type=click.Choice(["any", "text", "image"]), default="any", help="Only these.")
@with_archive
def recommend(archive: Archive, output: Output, user: str | None, k: int, target: Any) -> None:
    """Find what is new to a user, given what the user added before; a key that is bound to a user names it.

    \b
    clip-archive recommend ada
    clip-archive recommend ada --type image --json
    """
    found = archive.recommend(user, k=k, target=target)
    output.many(found.contents, (*_HEADS, "BECAUSE OF"), lambda each: [*_row(each), each.because.id])


def _row(hit: FoundContent) -> list[str]:
    relevance = "" if hit.relevance is None else f"{hit.relevance:.2f}"
    return [f"{hit.score:.3f}", relevance, hit.type, hit.id, hit.user or ""]


def _part(given: str, weight: float) -> Part:
    if given == "-":
        return Part(text=sys.stdin.buffer.read().decode("utf-8", "replace").strip(), weight=weight)
    path = Path(given)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # words may be longer than any name
        is_file = False
    return Part(picture=path, weight=weight) if is_file else Part(text=given, weight=weight)
