"""What `clip-archive import` makes of folders, tables and tars: each content once, and what is odd is told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clip_archive import Archive, Unauthorized
from clip_archive.importing.items import Bad, ImportFailure, composed, fitting, id_of
from clip_archive.importing.journal import Journal
from clip_archive.importing.plan import Plan, Result
from clip_archive.importing.run import FAILED, Options, run
from clip_archive.importing.tables import Table

from ..support.fake_torchserve import PNG, FakeTorchServe
from ..support.sidecar import AUTHORIZATION, Sidecar, running, with_keys

KEY = AUTHORIZATION.get("Authorization", "").removeprefix("Bearer ") or None


async def imported(sidecar: Sidecar, *paths: Path, plan: Plan | None = None, **options: Any) -> Result:
    """What became of an import, as the command makes it."""
    told = Options(plan=plan or Plan(), **options)
    with Archive(sidecar.url, key=KEY) as archive:
        return (await asyncio.to_thread(run, archive, paths, told, True))[0]


async def stored(sidecar: Sidecar) -> dict[str, Any]:
    """What is in the archive, by id."""
    reply = await sidecar.call("GET", "/contents?limit=1000")
    return {each["id"]: each for each in reply.json["contents"]}


def letters(folder: Path) -> list[dict[str, Any]]:
    """The dead letters."""
    path = folder / FAILED
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def texts(folder: Path, *names: str) -> Path:
    """A folder of texts, which say their names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")
    return folder


async def test_a_second_run_sends_what_is_new_or_changed(
    sidecar: Sidecar, fake: FakeTorchServe, tmp_path: Path
) -> None:
    folder = texts(tmp_path / "in", "a.txt", "b/c.txt", "b/d.TXT")
    (folder / "p.png").write_bytes(PNG + b"p")
    (folder / "notes.doc").write_text("no content")
    assert (await imported(sidecar, folder)).became == {"added": 4, "ignored": 1}
    assert (await imported(sidecar, folder)).became == {"skipped": 4, "ignored": 1}
    (folder / "a.txt").write_text("another text")
    os.utime(folder / "p.png", ns=(1, 1))  # touched, and the same
    texts(folder, "new.txt")
    dry = await imported(sidecar, folder, plan=Plan(dry_run=True))
    assert dry.became == {"replaced": 1, "added": 1, "skipped": 3, "ignored": 1}
    assert "new.txt" not in await stored(sidecar)
    assert (await imported(sidecar, folder)).became == {"replaced": 1, "added": 1, "skipped": 3, "ignored": 1}
    assert (await imported(sidecar, folder, plan=Plan(send_all=True))).became == {"unchanged": 5, "ignored": 1}
    assert set(await stored(sidecar)) == {"a.txt", "b/c.txt", "b/d.TXT", "new.txt", "p.png"}


async def test_removals_are_mirrored_only_when_all_was_seen(sidecar: Sidecar, tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "a.txt", "b.txt", "c.txt")
    await sidecar.add("mine", b"not of the folder")
    await imported(sidecar, folder)
    (folder / "a.txt").unlink()
    await imported(sidecar, folder)
    assert "a.txt" in await stored(sidecar)
    await imported(sidecar, folder, delete=True, plan=Plan(dry_run=True))
    assert "a.txt" in await stored(sidecar)
    await imported(sidecar, folder, delete=True)
    assert set(await stored(sidecar)) == {"b.txt", "c.txt", "mine"}
    for each in folder.iterdir():
        each.unlink()
    with pytest.raises(ImportFailure, match="nothing was found"):
        await imported(sidecar, folder, delete=True)
    assert set(await stored(sidecar)) == {"b.txt", "c.txt", "mine"}


async def test_a_tree_that_went_through_a_mac_is_the_same(sidecar: Sidecar, tmp_path: Path) -> None:
    composed_name, apart = unicodedata.normalize("NFC", "café.txt"), unicodedata.normalize("NFD", "café.txt")
    folder = texts(tmp_path / "in", f"ü/{composed_name}")
    assert (await imported(sidecar, folder)).became == {"added": 1}
    (folder / "ü" / composed_name).rename(folder / "ü" / apart)
    (folder / "ü").rename(folder / unicodedata.normalize("NFD", "ü"))
    assert (await imported(sidecar, folder)).became == {"skipped": 1}
    both = texts(tmp_path / "both", composed_name, apart)
    assert (await imported(sidecar, both, prefix="both/")).became == {"added": 2}
    assert composed(["a", apart]) == {"a": "a", apart: composed_name}


async def test_what_systems_leave_beside_files_is_no_content(sidecar: Sidecar, tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "IMG_1.txt", "._IMG_1.txt", ".DS_Store", ".git/x.txt", "Thumbs.db")
    assert (await imported(sidecar, folder)).became == {"added": 1, "ignored": 4}
    assert letters(tmp_path) == []


@pytest.mark.parametrize("name", ["Italy 2025 (April)", "Joe's", "[2019] {a,b}", "*", "-x", "100%"])
async def test_paths_are_literal(sidecar: Sidecar, tmp_path: Path, name: str) -> None:
    assert (await imported(sidecar, texts(tmp_path / name, "a.txt"))).became == {"added": 1}


async def test_names_that_no_id_may_have_are_written_out(sidecar: Sidecar, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (b"caf\xe9.txt", b"two\nlines.txt"):
        (folder / os.fsdecode(name)).write_text(f"text {name!r}")
    assert (await imported(sidecar, folder)).became == {"added": 2}
    assert set(await stored(sidecar)) == {"caf\\xe9.txt", "two\\nlines.txt"}
    assert id_of("a\u2028b") == "a\\u2028b"


async def test_links_lead_everywhere_but_back(sidecar: Sidecar, tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "a/x.txt", "main-1/y.txt")
    (folder / "a" / "loop").symlink_to("..")
    (folder / "a" / "self").symlink_to(".")
    (folder / "main").symlink_to("main-1")
    (folder / "nowhere.txt").symlink_to("gone.txt")
    os.link(folder / "a" / "x.txt", folder / "hard.txt")
    os.mkfifo(folder / "pipe.txt")
    result = await imported(sidecar, folder)
    assert result.became == {"added": 4, "failed": 1, "links skipped": 2, "ignored": 1}
    assert set(await stored(sidecar)) == {"a/x.txt", "main-1/y.txt", "main/y.txt", "hard.txt"}
    assert ["leads nowhere" in each["error"] for each in letters(tmp_path)] == [True]


async def test_two_contents_cannot_have_one_id(sidecar: Sidecar, tmp_path: Path) -> None:
    one, two = texts(tmp_path / "one", "a.txt"), texts(tmp_path / "two", "a.txt", "b.txt")
    assert (await imported(sidecar, one, two)).became == {"added": 2, "failed": 1}
    assert "as well" in letters(tmp_path)[0]["error"]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
async def test_tables_are_read_with_and_without_a_mark(sidecar: Sidecar, tmp_path: Path, mark: bytes) -> None:
    (tmp_path / "a.png").write_bytes(PNG + b"a")
    (tmp_path / "t.csv").write_bytes(mark + b"path,caption,user\r\na.png,A cat,ann\r\n")
    (tmp_path / "t.jsonl").write_bytes(mark + b'{"id": "t", "text": "words", "metadata": {"n": 1}, "tags": ["x"]}\n\n')
    assert (await imported(sidecar, tmp_path / "t.csv", tmp_path / "t.jsonl")).became == {"added": 2}
    there = await stored(sidecar)
    assert (there["a.png"]["user"], there["a.png"]["metadata"]) == ("ann", {"caption": "A cat"})
    assert there["t"]["metadata"] == {"n": 1, "tags": ["x"]}


def test_other_encodings_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("path\na.png\n".encode("utf-16"))
    with pytest.raises(ImportFailure, match="UTF-16"):
        Table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("table", "options", "rows"),
    [
        ("text;id\na, b and c;1\n", {}, [("1", "a, b and c")]),
        ("text\tid\na\t1\n", {}, [("1", "a")]),
        ('text\n"\ta"\n', {}, [(None, "\ta")]),
        ("caption;id\na;1\n", {"columns": {"text": "caption"}}, [("1", "a")]),
        ("text#id\na#1\n", {"delimiter": "#"}, [("1", "a")]),
    ],
)
def test_the_header_tells_the_delimiter(tmp_path: Path, table: str, options: Any, rows: list[Any]) -> None:
    (tmp_path / "t.csv").write_text(table)
    found = [each for each in Table(tmp_path / "t.csv", **options) if not isinstance(each, Bad)]
    assert [each.read().decode() for each in found] == [text for _, text in rows]
    assert all(each.id == content_id for each, (content_id, _) in zip(found, rows, strict=True) if content_id)


def test_a_table_without_a_column_we_know_is_refused_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ImportFailure, match=r"'a,b'.*--column"):
        Table(tmp_path / "t.csv")


async def test_a_bad_row_costs_itself_and_says_its_line(sidecar: Sidecar, tmp_path: Path) -> None:
    rows = ["id,text,note"] + [f"{number},text {number}," for number in range(1, 11)]
    rows[4] = f"4,{'long ' * 40_000},"
    rows[6] = "6,text,one,too many"
    rows[7] = '7,"two\nlines",'
    rows[9] = "9,,neither text nor path"
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    result = await imported(sidecar, tmp_path / "t.csv")
    assert result.became == {"added": 7, "failed": 3}
    told = {each["place"].rpartition(":")[2]: each["error"] for each in letters(tmp_path)}
    assert set(told) == {"5", "7", "11"}  # the line its record starts at: one of them took two
    assert "too_large" in told["5"]
    assert "4 values" in told["7"]
    (tmp_path / "t.jsonl").write_text('{"id": "x", "text": "x"}\n[1]\n{"id": \n{"id": "y", "text": "y"}\n')
    assert (await imported(sidecar, tmp_path / "t.jsonl")).became == {"added": 2, "failed": 2}


async def test_dead_letters_are_read_again_once_they_are_mended(sidecar: Sidecar, tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "good.txt")
    (folder / "bad.png").write_bytes(b"nothing")
    assert (await imported(sidecar, folder)).became == {"added": 1, "failed": 1}
    assert (await imported(sidecar, folder)).became == {"skipped": 1, "failed before": 1}
    assert [each["id"] for each in letters(tmp_path)] == ["bad.png"]
    assert (await imported(sidecar, tmp_path / FAILED, plan=Plan(retry_failed=True))).became == {"failed": 1}
    (folder / "bad.png").write_bytes(PNG + b"mended")
    assert (await imported(sidecar, tmp_path / FAILED)).became == {"added": 1}
    assert letters(tmp_path) == []
    assert (await stored(sidecar))["bad.png"]["metadata"] == {}
    assert (await imported(sidecar, folder)).became == {"skipped": 2}


async def test_what_failed_for_now_is_tried_again_and_what_failed_for_good_is_not(
    sidecar: Sidecar, fake: FakeTorchServe, tmp_path: Path
) -> None:
    folder = texts(tmp_path / "in", *(f"{number}.txt" for number in range(10)))
    (folder / "empty.txt").write_text(" ")
    fake.failure = "queue_full"
    result = await imported(sidecar, folder, plan=Plan(patience_s=0.5))
    assert result.stopped is not None
    assert result.stopped.retryable
    assert "added" not in result.became
    assert all(each["again"] for each in letters(tmp_path))
    fake.failure = None
    assert (await imported(sidecar, folder)).became == {"added": 10, "failed": 1}
    assert [each["again"] for each in letters(tmp_path)] == [False]
    asked = len(fake.requests)
    assert (await imported(sidecar, folder)).became == {"skipped": 10, "failed before": 1}
    assert (await imported(sidecar, folder, plan=Plan(retry_failed=True))).became == {"skipped": 10, "failed": 1}
    assert sum(each.data != b"ready?" for each in fake.requests[asked:]) == 1


async def test_a_busy_archive_is_waited_for(sidecar: Sidecar, fake: FakeTorchServe, tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", *(f"{number}.txt" for number in range(60)))
    fake.failure = "queue_full"
    importing = asyncio.create_task(imported(sidecar, folder))
    await asyncio.sleep(1)
    fake.failure = None
    assert (await importing).became == {"added": 60}


async def test_a_wrong_key_stops_at_once(settings: Any, tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", *(f"{number}.txt" for number in range(300)))
    async with running(with_keys(settings)) as sidecar:

        def attempt() -> Result:
            with Archive(sidecar.url, key="clipk_" + "x" * 38) as archive:
                return run(archive, [folder], Options(), True)[0]

        with pytest.raises(Unauthorized, match="invalid_key"):
            await asyncio.to_thread(attempt)


async def test_tars_of_webdataset(sidecar: Sidecar, tmp_path: Path, tar_of: Callable[..., Path]) -> None:
    told = {"caption": "A cat", "url": "http://x", "width": 10, "error_message": None, "exif": "{" + "x" * 6000 + "}"}
    tar = tar_of(
        tmp_path / "00000.tar",
        {
            "000000000.jpg": PNG + b"0",
            "000000000.json": json.dumps(told).encode(),
            "000000000.txt": b"A cat",
            "._000000001.jpg": b"x",
            "000000001.jpg": PNG + b"1",
            "000000001.txt": b"a dog",
            "000000002.txt": b"words alone",
            "000000003.cls": b"7",
        },
    )
    result = await imported(sidecar, tar)
    assert result.became == {"added": 3, "ignored": 2, "metadata shortened": 1}
    there = await stored(sidecar)
    assert there["000000000"]["metadata"] == {"caption": "A cat", "url": "http://x", "width": 10}
    assert there["000000001"]["metadata"] == {"caption": "a dog"}
    assert (there["000000001"]["type"], there["000000002"]["type"]) == ("image", "text")
    assert (await imported(sidecar, tar)).became == {"skipped": 3, "ignored": 2, "metadata shortened": 1}
    tar.write_bytes(tar.read_bytes()[:2000])
    assert (await imported(sidecar, tar)).became["failed"] == 1


async def test_folders_with_a_table_of_metadata(sidecar: Sidecar, tmp_path: Path) -> None:
    folder = tmp_path / "set" / "train"
    folder.mkdir(parents=True)
    for name in ("1.png", "2.png", "3.png"):
        (folder / name).write_bytes(PNG + name.encode())
    rows = [{"file_name": "1.png", "caption": "one"}, {"file_name": "2.png", "user": "ann"}, {"file_name": "gone.png"}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert (await imported(sidecar, tmp_path / "set")).became == {"added": 3, "failed": 1}
    there = await stored(sidecar)
    assert there["train/1.png"]["metadata"] == {"caption": "one"}
    assert there["train/2.png"]["user"] == "ann"
    assert "train/3.png" in there


async def test_a_table_that_cannot_be_read_ends_the_import(sidecar: Sidecar, tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "a.txt")
    (folder / "metadata.csv").write_bytes("file_name,caption\na.txt,words\n".encode("utf-16"))
    with pytest.raises(ImportFailure, match="save it as UTF-8"):
        await imported(sidecar, folder)


async def test_big_pictures_are_sent_smaller_only_when_told(sidecar: Sidecar, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image").effect_noise((900, 600), 80).convert("RGB")
    folder = tmp_path / "in"
    folder.mkdir()
    image.save(folder / "big.jpg", quality=95)
    image.resize((100, 80)).save(folder / "small.png")
    digests = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in folder.iterdir()}
    await imported(sidecar, folder, shrink=300)
    there = await stored(sidecar)
    assert there["small.png"]["sha256"] == digests["small.png"]
    assert there["big.jpg"]["sha256"] != digests["big.jpg"]
    assert (await imported(sidecar, folder, shrink=300)).became == {"skipped": 2}


def test_metadata_is_made_to_fit() -> None:
    tally: Any = Counter()
    told = {"a b": 1, "type": "x", "null": None, "list": ["a"], "deep": {"x": [1]}, "long": "x" * 5000, "": "y"}
    assert fitting(told, tally) == {"a_b": 1, "type_": "x", "list": ["a"], "deep": '{"x":[1]}', "_": "y"}
    assert tally == {"metadata shortened": 1}
    assert fitting({"a": None}, tally) is None


def test_one_import_at_a_time(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j", "http://x")
    with pytest.raises(ImportFailure, match="another import"):
        Journal(tmp_path / "j", "http://x")
    first.close()
    (tmp_path / "j").write_bytes(b"no database" * 100)
    with pytest.raises(ImportFailure, match="damaged"):
        Journal(tmp_path / "j", "http://x")
