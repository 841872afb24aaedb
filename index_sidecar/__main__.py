"""Run the index sidecar: python -m index_sidecar; or move its archive to a cluster: ... migrate --to qdrant://..."""

from __future__ import annotations

import argparse
import os
import sys

from aiohttp import web

from . import __version__, logs
from .archive.content import ContentError, ModelMismatch, StoreError
from .qdrant import migrate
from .settings import Settings, SettingsError


def main() -> None:
    """Environment -> settings -> server, or another command.

    Exits with 2 for wrong settings, with 1 when it cannot start or the command fails.
    """
    arguments = _parser().parse_args()
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(f"index_sidecar: wrong settings\n{error}", file=sys.stderr)
        sys.exit(2)
    logs.set_up(settings.log_format)
    if arguments.command == "migrate":
        _migrate(settings, arguments)
    else:
        _serve(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m index_sidecar",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Serve add_content and retrieve over HTTP. All settings are environment variables:",
        epilog=Settings.help(),
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="instead of serving")
    migrating = commands.add_parser(
        "migrate",
        help=migrate.HELP,
        description=migrate.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    migrate.add_arguments(migrating)
    return parser


def _serve(settings: Settings) -> None:
    from .app import create_app  # with Faiss, which no other command has to wait for

    try:
        web.run_app(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            access_log=None,
            print=lambda line: print(line, file=sys.stderr, flush=True),
            handler_cancellation=False,
        )
    except (StoreError, ModelMismatch, OSError) as error:
        print(f"index_sidecar: cannot start: {error}", file=sys.stderr)
        sys.exit(1)


def _migrate(settings: Settings, arguments: argparse.Namespace) -> None:
    try:
        migrate.run(settings, arguments.to)
    except (migrate.MigrationError, StoreError, ContentError) as error:
        print(f"index_sidecar: not migrated: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("index_sidecar: interrupted; the same command goes on with what is missing", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
