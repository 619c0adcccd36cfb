"""The published edition: what is refused, how it is placed, and how lag is told."""

import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from making import contents, drawing, png_bytes
from PIL import Image

from bookbinder import publish
from bookbinder.compress import png
from bookbinder.publish import Refused

ROOT = Path(__file__).resolve().parents[2]
GIT = shutil.which("git")
pytestmark = pytest.mark.skipif(GIT is None, reason="no git")
PICTURE = "report/one_files/figure-html/fig-a.png"
SHOWN = '<img src="one_files/figure-html/fig-a.{}" data-csv="one_files/figure-html/fig-a.csv">a.png'
SOURCES = {
    **{"_quarto.yml": "book: {}\n", "index.qmd": "# Welcome\n", "report/one.qmd": "# One\n"},
    **{"code/lazy_artist/one.py": "x = 1\n", "README.md": "Not of the book.\n"},
    ".gitignore": "/_book/\n/_book.*\n__pycache__/\n*_files/\n!/docs/**/*_files/\n",
}


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A Reader", "-c", "user.email=reader@example.org"]
    command = [GIT, *identity, *arguments]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A clean checkout, with Quarto 9.9.9 and MNIST at hand, at full scale."""
    root = tmp_path / "checkout"
    write(root, SOURCES | {"../quarto": "#!/bin/sh\necho 9.9.9\n"})
    (tmp_path / "quarto").chmod(0o755)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "All of it")
    monkeypatch.setenv("QUARTO", str(tmp_path / "quarto"))
    monkeypatch.delenv("PUBLISH_WITH", raising=False)
    sources = {"train": "MNIST (downloaded)", "test": "MNIST (a folder)"}
    load = lambda split: SimpleNamespace(source=os.environ.get(split, sources[split]))  # noqa: E731
    monkeypatch.setattr(publish, "load_digits", load)
    monkeypatch.chdir(root)
    return root


def build(checkout: Path, **more: bytes) -> Path:
    """A book of the checkout as it is: three pages and a picture."""
    colophon = f"<p>commit <code>{git(checkout, 'rev-parse', 'HEAD')[:12]}</code></p>"
    pages = {"index.html": "<h1>Welcome</h1>", "report/colophon.html": colophon}
    pages["report/one.html"] = SHOWN.format("png")
    write(checkout / "_book", pages | {PICTURE: png_bytes(drawing())} | more)
    return checkout / "_book"


def test_a_clean_checkout_with_all_at_hand_is_ready(checkout, monkeypatch):
    write(checkout, {"docs/index.html": "an edition that is not committed yet"})
    assert publish.ready(checkout) == (git(checkout, "rev-parse", "HEAD"), "Quarto 9.9.9")
    monkeypatch.setenv("QUARTO", "no-such-quarto")
    monkeypatch.setenv("PUBLISH_WITH", "bookbinder")
    assert publish.ready(checkout)[1].startswith("bookbinder ")
    for file in ("report/new.qmd", "README.md"):
        write(checkout, {file: "# Changed\n"})
        with pytest.raises(Refused, match=f"uncommitted work .*{file}.*Commit it"):
            publish.ready(checkout)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LAZY_ARTIST_SCALE", "quick", "scale is quick.*Unset LAZY_ARTIST_SCALE"),
        ("QUARTO", "no-such-quarto", "Quarto is not here.*PUBLISH_WITH=bookbinder"),
        ("GIT_DIR", "nowhere", "Publish from a git checkout"),
        ("test", "Fashion", "the test digits are not MNIST but: Fashion.*LAZY_ARTIST_DATA"),
    ],
)
def test_settings_that_make_no_edition_are_refused(checkout, monkeypatch, name, value, told):
    monkeypatch.setenv(name, value)
    with pytest.raises(Refused, match=told):
        publish.ready(checkout)


def test_an_edition_is_placed_whole_or_the_last_one_stays(checkout, monkeypatch):
    docs = checkout / "docs"
    book = build(checkout, **{"search.json": b"[]", ".quarto": b""})
    write(docs, {"old.html": "an older edition"})
    publish.place(checkout, book, docs)
    placed, given = contents(docs), contents(book)
    smaller = PICTURE.replace(".png", ".webp")
    new = {".nojekyll", "edition.json", smaller}
    assert set(placed) == set(given) - {"search.json", ".quarto", PICTURE} | new
    assert len(placed[smaller]) < 0.8 * len(given[PICTURE])
    images = [Image.open(io.BytesIO(png(given[PICTURE]))), Image.open(docs / smaller)]
    first, second = (np.asarray(image.convert("RGBA")) for image in images)
    np.testing.assert_array_equal(first, second)
    assert placed["report/one.html"].decode() == SHOWN.format("webp")
    assert all(placed[n] == given[n] for n in set(given) & set(placed) - {"report/one.html"})
    record = json.loads(placed["edition.json"])
    assert record["commit"] == git(checkout, "rev-parse", "HEAD")
    assert record["builder"] == "Quarto 9.9.9"
    with pytest.raises(Refused, match="there is no book"):
        publish.place(checkout, checkout / "_book.other", docs)
    git(checkout, "commit", "-qm", "Meanwhile", "--allow-empty")
    with pytest.raises(Refused, match="was not built from .*commit nothing meanwhile"):
        publish.place(checkout, book, docs)
    monkeypatch.setattr(publish, "LIMIT", 20_000)
    with pytest.raises(Refused, match="more than 0.*large.bin is the largest"):
        publish.place(checkout, build(checkout, **{"large.bin": bytes(20_000)}), docs)
    assert contents(docs) == placed and not list(checkout.glob("_book.*"))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
@pytest.mark.parametrize("folder", ["docs/", ""])
def test_only_figures_of_the_edition_are_not_ignored_by_git(folder):
    name = f"{folder}report/cheater_files/figure-html/fig-a.png"
    done = subprocess.run([GIT, "check-ignore", "-q", "--no-index", name], cwd=ROOT)
    assert (done.returncode == 0) == (folder == "")


@pytest.mark.parametrize("record", [None, "[]", "{", '{"commit": "a"}'])
def test_a_record_that_cannot_be_read_is_refused(tmp_path, record):
    write(tmp_path, {"docs/edition.json": record} if record else {})
    with pytest.raises(Refused, match="docs/edition.json is missing or unreadable; run"):
        publish.lag(tmp_path, tmp_path / "docs")


def test_an_edition_lags_once_a_chapter_or_module_changes_and_nothing_else(checkout):
    docs = checkout / "docs"
    publish.place(checkout, build(checkout), docs)
    write(checkout, {"README.md": "Changed.", "tests/test_new.py": "", "docs.txt": ""})
    write(checkout, {"code/lazy_artist/__pycache__/one.pyc": "", "report/one_files/a.png": ""})
    assert publish.lag(checkout, docs) == ""
    write(checkout, {"report/two.qmd": "# Two\n", "index.qmd": "# Changed\n"})
    (checkout / "code/lazy_artist/one.py").unlink()
    told = publish.lag(checkout, docs)
    assert "changed since: code/lazy_artist/one.py, index.qmd, report/two.qmd." in told
    assert git(checkout, "rev-parse", "HEAD")[:12] in told and "`make publish`" in told
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "What has changed is still to be published")
    assert publish.lag(checkout, docs) == told
    write(docs, {"edition.json": '{"commit": "0123456789abcdef", "built": "2020-01-01"}'})
    assert "0123456789ab on 2020-01-01; what has changed" in publish.lag(checkout, docs)


def test_the_command_says_what_it_found(checkout, capsys, monkeypatch):
    def run(step: str, status: int, told: str) -> None:
        assert publish.main([step]) == status
        assert told in "".join(capsys.readouterr())

    run("check", 0, "nothing is published yet")
    run("ready", 0, "with Quarto 9.9.9, at full scale, from MNIST")
    build(checkout)
    run("place", 0, "docs: 0.0 MB. Commit it")
    write(checkout, {"index.qmd": "# Changed\n"})
    run("check", 0, "changed since: index.qmd.")  # a lag is told, and no error
    monkeypatch.setattr(publish, "LIMIT", 10)
    run("check", 1, "more than 0")
