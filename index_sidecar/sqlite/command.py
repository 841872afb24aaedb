"""The commands about backups: what each takes from the command line, does and prints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from . import rows
from .backup import Backups
from .manifest import BackupError
from .restore import restore

HELP = {
    "backup": "back up the archive, also while it is served",
    "verify": "list the backups, and whether each is as it was written",
    "restore": "put a backup into the place of the archive, while no sidecar runs",
}
DESCRIPTION = {
    "backup": """\
Back up the archive of DATA_DIR, also while it is served, and print the backup's name.

  python -m index_sidecar backup
  BACKUP_DIR=/mnt/other-disk BACKUP_KEEP=30 python -m index_sidecar backup

It is the state at one commit. Nobody waits for it, but what is erased meanwhile is overwritten when it is done. Then
all but the BACKUP_KEEP newest are dropped. Pictures' originals are not in it: docs/backup.md tells how to copy them.
""",
    "verify": """\
List the backups of BACKUP_DIR, the oldest first, and compare each, or the one that is named, with its manifest: every
byte, what SQLite says of it, and the contents in it. Exits with 1 when one is not as it was written.

  python -m index_sidecar verify
  python -m index_sidecar verify 20261124T021500.123Z
""",
    "restore": """\
Put a backup of BACKUP_DIR into the place of the archive in DATA_DIR. Stop the sidecar first: beside it, this refuses.

  python -m index_sidecar verify      # lists the backups
  python -m index_sidecar restore 20261124T021500.123Z

The backup is verified, and an older schema is brought to this program's, on a copy: until that is done nothing is
changed. From then on it is brought to its end whatever cuts it off, by the next start if need be. The archive that was
there is taken away: where it can still be read, make a backup of it first. What was erased since the backup is
erased from it by the next start, where the sidecar has always had BACKUP_DIR set; else that is there again. Pictures'
originals are not in a backup: put their copy back before the start, as docs/backup.md says.
""",
}


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """To the commands of the program."""
    for name, help_ in HELP.items():
        parser = commands.add_parser(
            name,
            help=help_,
            description=DESCRIPTION[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == "verify":
            parser.add_argument("name", nargs="?", help="a backup; all of them when not said")
        if name == "restore":
            parser.add_argument("name", help="the backup, as verify lists it")


def run(arguments: argparse.Namespace, database: Path, folder: Path, keep: int) -> None:
    """Do what was asked. Raises BackupError, StoreError, OSError."""
    backups = Backups(folder)
    if arguments.command == "backup":
        _back_up(backups, database, keep)
    elif arguments.command == "restore":
        manifest = restore(database, rows.SCHEMA, backups, arguments.name)
        print(f"{manifest.name} is restored: {manifest}")
    else:
        _verify(backups, [arguments.name] if arguments.name else backups.names())


def _back_up(backups: Backups, database: Path, keep: int) -> None:
    with tqdm(desc="backup", unit="page", file=sys.stderr, disable=None) as bar:

        def show(left: int, total: int) -> None:
            bar.total = total
            bar.update(total - left - bar.n)

        manifest = backups.make(database, keep, show)
    print(f"{manifest.name}: {manifest}")


def _verify(backups: Backups, names: list[str]) -> None:
    if not names:
        raise BackupError(f"there is no backup in {backups.folder}: set BACKUP_DIR, or make one by the command backup")
    wrong = 0
    for name in names:
        try:
            print(f"{name}: {backups.verify(name)}", flush=True)
        except BackupError as error:
            wrong += 1
            print(f"{name}: {error}", flush=True)
    if wrong:
        raise BackupError(f"{wrong} of {len(names)} backups cannot be used")
