"""Run the index sidecar: python -m index_sidecar."""

from __future__ import annotations

import argparse
import os
import sys

from aiohttp import web

from . import __version__, logs
from .app import create_app
from .content import ModelMismatch, StoreError
from .settings import Settings, SettingsError


def main() -> None:
    """Environment -> settings -> server. Exits with 2 for wrong settings, with 1 when it cannot start."""
    parser = argparse.ArgumentParser(
        prog="python -m index_sidecar",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Serve add_content and retrieve over HTTP. All settings are environment variables:",
        epilog=Settings.help(),
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.parse_args()
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(f"index_sidecar: wrong settings\n{error}", file=sys.stderr)
        sys.exit(2)
    logs.set_up(settings.log_format)
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


if __name__ == "__main__":
    main()
