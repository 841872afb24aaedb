"""Run the index sidecar in the foreground, watched: end with it, and end it when it lives but answers nothing.

    python -m deploy.sidecar

It loads its index for as long as it needs. SERVE_DEAF_S (180): longest time without an answer after its first one; 0
stands for ever. The other settings are the sidecar's: python -m index_sidecar --help
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import socket
import sys

from index_sidecar.settings import Settings, SettingsError

from . import watch


def check(host: str, port: int) -> watch.Check:
    """Whether the process answers: with any status, or, where it wants TLS, by hanging up. It may refuse everybody."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)

    def reason(timeout_s: float) -> str | None:
        if port == 0:  # a free one, whose number only the sidecar knows
            return None
        try:
            connection = socket.create_connection((here, port), timeout_s)
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        with connection:
            try:
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                connection.recv(1)
            except TimeoutError:
                return f"no answer within {timeout_s:.0f} s"
            except OSError:
                pass  # hung up on
        return None

    return reason


def main() -> None:
    """Parse the arguments and run the sidecar until it ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--die-with", type=int, metavar="PID", help="stop when this process, our parent, is gone")
    arguments = parser.parse_args()
    if arguments.die_with:
        watch.die_with(arguments.die_with, signal.SIGTERM)
    patience = watch.Patience(start_s=math.inf, deaf_s=watch.seconds(os.environ, "SERVE_DEAF_S", 180))
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(f"index_sidecar: wrong settings\n{error}", file=sys.stderr)
        sys.exit(2)
    of_sidecar = [sys.executable, "-m", "index_sidecar"]
    watch.end_as(watch.run("the sidecar", of_sidecar, check(settings.host, settings.port), patience))


if __name__ == "__main__":
    main()
