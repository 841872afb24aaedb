"""A restore that dies: python -m tests.support.dying_restore FOLDER NAME STEP makes FOLDER/0, FOLDER/STEP and so on.

FOLDER/first has the archive in `data`, and in `backups` the one to restore. In the n-th copy of it the process ended,
as by SIGKILL, just before the n-th call by which files are opened, made, renamed, synced and removed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from pathlib import Path

from index_sidecar.sqlite import rows
from index_sidecar.sqlite.backup import Backups
from index_sidecar.sqlite.restore import restore

from .dying import die_before

_CALLS = ("open", "mkdir", "fsync", "replace", "unlink", "rmdir")


def main(folder: Path, name: str, step: int) -> None:
    for number in itertools.count(0, step):
        here = folder / str(number)
        shutil.copytree(folder / "first", here)
        child = os.fork()
        if not child:
            die_before(number, _CALLS)
            restore(here / "data" / "contents.sqlite", rows.SCHEMA, Backups(here / "backups"), name)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != 9:
            sys.exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
