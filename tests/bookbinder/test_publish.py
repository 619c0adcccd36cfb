"""The published edition: what is refused, how it is placed, and how lag is told."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from making import contents, drawing, png_bytes

from bookbinder import publish
from bookbinder.publish import Refused

ROOT = Path(__file__).resolve().parents[2]
GIT = shutil.which("git")
pytestmark = pytest.mark.skipif(GIT is None, reason="no git")
SOURCES = {
    "_quarto.yml": "book: {}\n",
    "index.qmd": "# Welcome\n",
    "report/one.qmd": "# One\n",
    "code/lazy_artist/one.py": "x = 1\n",
    "code/bookbinder/two.py": "y = 2\n",
    "README.md": "Not of the book.\n",
    ".gitignore": "/_book/\n/_book.*\n__pycache__/\n*_files/\n!/docs/**/*_files/\n",
}


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A Reader", "-c", "user.email=reader@example.org"]
    done = subprocess.run(
        [GIT, *identity, *arguments], cwd=root, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def write(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        content = content.encode() if isinstance(content, str) else content
        (root / name).write_bytes(content)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean checkout, with Quarto 9.9.9 and MNIST at hand, at full scale."""
    write(tmp_path, {f"checkout/{name}": text for name, text in SOURCES.items()})
    write(tmp_path, {"quarto": f"#!{sys.executable}\nprint('9.9.9')\n"})
    (tmp_path / "quarto").chmod(0o755)
    root = tmp_path / "checkout"
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "All of it")
    monkeypatch.setenv("QUARTO", str(tmp_path / "quarto"))
    for name in ("PUBLISH_WITH", "LAZY_ARTIST_SCALE"):
        monkeypatch.delenv(name, raising=False)
    digits = SimpleNamespace(source="MNIST (downloaded)")
    monkeypatch.setattr(publish, "load_digits", lambda split: digits)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def built(checkout: Path) -> Callable[..., Path]:
    """Builds a book of the checkout as it is: two pages and a picture."""

    def build(**more: bytes) -> Path:
        commit = git(checkout, "rev-parse", "HEAD")
        pages = {
            "index.html": "<h1>Welcome</h1>",
            "report/colophon.html": f"<p>commit <code>{commit[:12]}</code></p>",
            "report/one_files/figure-html/fig-a.png": png_bytes(drawing()),
        }
        write(checkout / "_book", pages | more)
        return checkout / "_book"

    return build


def test_a_clean_checkout_with_all_at_hand_is_ready(checkout, monkeypatch):
    commit = git(checkout, "rev-parse", "HEAD")
    write(checkout, {"docs/index.html": "an edition that is not committed yet"})
    assert publish.ready(checkout) == (commit, "Quarto 9.9.9")
    monkeypatch.setenv("QUARTO", "no-such-quarto")
    monkeypatch.setenv("PUBLISH_WITH", "bookbinder")
    assert publish.ready(checkout)[1].startswith("bookbinder ")


@pytest.mark.parametrize("file", ["report/one.qmd", "report/new.qmd", "README.md"])
def test_uncommitted_work_is_refused_by_name(checkout, file):
    write(checkout, {file: "# Changed\n"})
    with pytest.raises(Refused, match=f"uncommitted work .*{file}.*Commit it"):
        publish.ready(checkout)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LAZY_ARTIST_SCALE", "quick", "scale is quick.*without SCALE"),
        ("QUARTO", "no-such-quarto", "Quarto is not here.*PUBLISH_WITH=bookbinder"),
        ("PUBLISH_WITH", "paper", "PUBLISH_WITH is paper: set it to quarto or bookbinder"),
        ("GIT_DIR", "nowhere", "Publish from a git checkout"),
    ],
)
def test_settings_that_make_no_edition_are_refused(checkout, monkeypatch, name, value, told):
    monkeypatch.setenv(name, value)
    with pytest.raises(Refused, match=told):
        publish.ready(checkout)


@pytest.mark.parametrize("split", ["train", "test"])
def test_other_digits_than_mnist_are_refused(checkout, monkeypatch, split):
    sources = {"train": "MNIST (downloaded)", "test": "MNIST (a folder)"}
    sources[split] = "Fashion-MNIST (downloaded)"
    load = lambda split: SimpleNamespace(source=sources[split])  # noqa: E731
    monkeypatch.setattr(publish, "load_digits", load)
    with pytest.raises(Refused, match=f"the {split} digits are not MNIST but: F.*LAZY_ARTIST_DATA"):
        publish.ready(checkout)


def test_an_edition_is_placed_whole_with_its_record(checkout, built):
    book = built(**{"search.json": b"[]", ".quarto": b""})
    write(checkout, {"docs/old.html": "an older edition"})
    publish.place(checkout, book, checkout / "docs")
    placed, given = contents(checkout / "docs"), contents(book)
    given = {name: given[name] for name in given if name not in ("search.json", ".quarto")}
    assert set(placed) == set(given) | {".nojekyll", "edition.json"}
    picture = "report/one_files/figure-html/fig-a.png"
    assert len(placed[picture]) < 0.8 * len(given[picture])
    assert all(placed[name] == given[name] for name in given if name != picture)
    record = json.loads(placed["edition.json"])
    assert record["commit"] == git(checkout, "rev-parse", "HEAD")
    assert record["builder"] == "Quarto 9.9.9"
    assert publish.lag(checkout, checkout / "docs") == ""
    assert git(checkout, "status", "--porcelain", "--", ".", ":(exclude)docs") == ""


def test_what_is_refused_leaves_the_last_edition_in_place(checkout, built, monkeypatch):
    docs = checkout / "docs"
    publish.place(checkout, built(), docs)
    before = contents(docs)
    with pytest.raises(Refused, match="there is no book"):
        publish.place(checkout, checkout / "_book.other", docs)
    git(checkout, "commit", "-qm", "Meanwhile", "--allow-empty")
    with pytest.raises(Refused, match="was not built from .*commit nothing meanwhile"):
        publish.place(checkout, checkout / "_book", docs)
    monkeypatch.setattr(publish, "LIMIT", 20_000)
    with pytest.raises(Refused, match="more than 0.*large.bin is the largest"):
        publish.place(checkout, built(**{"large.bin": bytes(20_000)}), docs)
    monkeypatch.setattr(publish.compress, "images", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish.place(checkout, built(), docs)
    assert contents(docs) == before
    assert not list(checkout.glob("_book.publish.*"))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
@pytest.mark.parametrize("folder", ["docs/", ""])
def test_only_figures_of_the_edition_are_not_ignored_by_git(folder):
    name = f"{folder}report/cheater_files/figure-html/fig-a.png"
    done = subprocess.run([GIT, "check-ignore", "-q", "--no-index", name], cwd=ROOT)
    assert (done.returncode == 0) == (folder == "")


@pytest.mark.parametrize("record", ["", "[]", "{", '{"commit": "a"}'])
def test_a_record_that_cannot_be_read_is_refused(tmp_path, record):
    for _ in range(2):  # with none, and with this one
        with pytest.raises(Refused, match="docs/edition.json is missing or unreadable; run"):
            publish.lag(tmp_path, tmp_path / "docs")
        write(tmp_path, {"docs/edition.json": record})


def test_an_edition_lags_once_a_chapter_or_module_changes_and_nothing_else(checkout, built):
    docs = checkout / "docs"
    publish.place(checkout, built(), docs)
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
    (docs / "edition.json").write_text('{"commit": "0123456789abcdef", "built": "2020-01-01"}')
    assert "0123456789ab on 2020-01-01; what has changed" in publish.lag(checkout, docs)


def test_the_command_says_what_it_found(checkout, built, capsys, monkeypatch):
    def run(step: str, status: int, told: str) -> None:
        assert publish.main([step]) == status
        assert told in "".join(capsys.readouterr())

    run("check", 0, "nothing is published yet")
    run("place", 1, "there is no book")
    run("ready", 0, "with Quarto 9.9.9, at full scale, from MNIST")
    built()
    run("place", 0, "docs: 0.0 MB. Commit it")
    run("check", 0, "as new as the chapters and modules")
    write(checkout, {"index.qmd": "# Changed\n"})
    run("check", 0, "changed since: index.qmd.")  # a lag is told, and no error
    monkeypatch.setattr(publish, "LIMIT", 10)
    run("check", 1, "more than 0")
