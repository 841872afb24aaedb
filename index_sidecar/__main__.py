"""Run the index sidecar: python -m index_sidecar; or do something else with its archive: ... --help names what."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from . import __version__, logs
from .access import command as access
from .access.keys import KeysError
from .archive.errors import ContentError, ModelMismatch, StoreError
from .http.server import serve
from .http.tls import Certificate
from .qdrant import migrate
from .qdrant.collection import QdrantCollection
from .qdrant.nodes import Nodes
from .qdrant.store import QdrantStore
from .qdrant.url import QdrantUrl, qdrant_url
from .settings import Settings, SettingsError
from .sqlite import command as backups
from .sqlite.manifest import BackupError
from .sqlite.store import SqliteStore


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
    elif arguments.command == "keys":
        _keys(settings, arguments)
    elif arguments.command in backups.HELP:
        _backups(settings, arguments)
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
    migrating.add_argument(
        "--to", required=True, type=_qdrant_url, metavar="URL", help="qdrant://HOST[:PORT][,...][/COLLECTION]"
    )
    keys = commands.add_parser(
        "keys",
        help=access.HELP,
        description=access.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    access.add_arguments(keys)
    backups.add_commands(commands)
    return parser


def _serve(settings: Settings) -> None:
    from .app import create_app  # with Faiss, which no other command has to wait for

    try:
        cert_file, key_file = settings.tls_cert_file, settings.tls_key_file
        certificate = Certificate(cert_file, key_file) if cert_file and key_file else None
        app, where = create_app(settings), (settings.host, settings.port)
        asyncio.run(serve(app, *where, settings.idle_timeout_s, settings.shutdown_timeout_s, certificate))
    except (StoreError, ModelMismatch, KeysError, OSError) as error:
        print(f"index_sidecar: cannot start: {error}", file=sys.stderr)
        sys.exit(1)


def _keys(settings: Settings, arguments: argparse.Namespace) -> None:
    try:
        lines = access.run(arguments, settings.path_of_keys, settings.data_dir / "keys-used.json")
    except (KeysError, OSError) as error:
        print(f"index_sidecar: {error}", file=sys.stderr)
        sys.exit(1)
    print("\n".join(lines))


def _backups(settings: Settings, arguments: argparse.Namespace) -> None:
    try:
        if settings.index_url != "faiss":
            raise BackupError("INDEX_URL names a cluster: back it up by Qdrant's own snapshots")
        database = settings.data_dir / "contents.sqlite"
        backups.run(arguments, database, settings.path_of_backups, settings.backup_keep)
    except (BackupError, StoreError, OSError) as error:
        print(f"index_sidecar: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(
            "index_sidecar: interrupted; what is left is cleared up by the next backup, restore or start",
            file=sys.stderr,
        )
        sys.exit(130)


def _qdrant_url(value: str) -> QdrantUrl:
    try:
        return qdrant_url(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _migrate(settings: Settings, arguments: argparse.Namespace) -> None:
    try:
        asyncio.run(_copy_to_cluster(settings, arguments.to))
    except (migrate.MigrationError, StoreError, ContentError, OSError) as error:
        print(f"index_sidecar: not migrated: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("index_sidecar: interrupted; the same command goes on with what is missing", file=sys.stderr)
        sys.exit(130)


async def _copy_to_cluster(settings: Settings, url: QdrantUrl) -> None:
    path = settings.data_dir / "contents.sqlite"
    if not path.exists():
        raise migrate.MigrationError(
            f"there is no archive in {settings.data_dir}: set DATA_DIR to the folder of contents.sqlite"
        )
    source = SqliteStore(path)
    nodes = Nodes(url.nodes, settings.qdrant_api_key_file, settings.qdrant_timeout_s)
    collection = QdrantCollection(nodes, url.collection, settings.qdrant_shards, settings.qdrant_replication)
    target = QdrantStore(collection)
    try:
        await collection.check()
        await migrate.migrate(source, target)
    finally:
        await target.close()
        await source.close()


if __name__ == "__main__":
    main()
