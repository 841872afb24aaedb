"""A process that decodes pictures for the worker, one at a time: python clip_decoder.py '{"formats": [...], ...}'

Files from strangers are taken apart here, behind limits of the operating system: memory by RLIMIT_AS, time by a timer
that ends the process, and a decoder's crash ends nothing else. `clip_decode_pool.py` starts it and has the other end.

Over stdin and stdout: length and bytes of a file come in, and a line of JSON goes out: `{"refusal": [status, code,
message]}`, `{"failure": what}` for what is no fault of the file's, or `{"needs": bytes}`. The last one is answered by a
byte, 1 to go on or 0 to forget the file, and then one of the first two follows, or `{}` and the picture's bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import struct
import sys
import traceback
from typing import Any, BinaryIO

import clip_pictures
from clip_inputs import Refusal
from clip_limits import Limits

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# What libraries allocate beside the picture, and what the C library keeps without using it.
_SPARE_BYTES = 64 << 20


class _Forgotten(Exception):
    """The other end does not want the picture any more."""


def main() -> None:
    """Answer until stdin ends."""
    limits = Limits(**json.loads(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the worker ends us
    _be_the_first_to_go()
    files, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)  # libtiff writes several lines for every broken file
    while header := files.read(4):
        data = files.read(*struct.unpack(">I", header))
        signal.setitimer(signal.ITIMER_PROF, limits.decode_seconds)  # of computing; SIGPROF ends the process
        with contextlib.suppress(_Forgotten):
            _answer(answers, files, data, limits)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _limit_memory(None)


def _answer(answers: BinaryIO, files: BinaryIO, data: bytes, limits: Limits) -> None:
    def charge(needed_bytes: int) -> None:
        _say(answers, {"needs": needed_bytes})
        if files.read(1) != b"\1":
            raise _Forgotten
        _limit_memory(needed_bytes)

    _limit_memory(3 * len(data))  # to open it
    try:
        picture = clip_pictures.decode_image(data, limits, charge)
    except Refusal as refusal:
        _say(answers, {"refusal": [refusal.status, refusal.code, refusal.message]})
    except MemoryError:
        _limit_memory(None)
        _say(answers, {"refusal": [413, "too_costly", "decoding the picture takes more memory than its size tells"]})
    except _Forgotten:
        raise
    except Exception:
        _limit_memory(None)
        _say(answers, {"failure": traceback.format_exc()})
    else:
        _say(answers, {}, picture.tobytes())


def _say(answers: BinaryIO, answer: dict[str, Any], body: bytes = b"") -> None:
    answers.write(json.dumps(answer).encode() + b"\n" + body)
    answers.flush()


def _limit_memory(more_bytes: int | None) -> None:
    """Let the process grow by so much from now on; None: without a limit of ours."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if more_bytes is None:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        return
    with open("/proc/self/statm", "rb") as file:
        now = int(file.read().split()[0]) * _PAGE_BYTES
    limit = now + more_bytes + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _be_the_first_to_go() -> None:
    """Where the machine runs out of memory all the same, this process is to end, and not the worker."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


if __name__ == "__main__":
    main()
