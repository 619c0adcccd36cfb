"""The published edition: what is refused, how it is placed, and how damage and lag are told."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_compress import drawing, png

from bookbinder import execute, publish
from bookbinder.publish import Refused

ROOT = Path(__file__).resolve().parents[2]
GIT = shutil.which("git")
needs_git = pytest.mark.skipif(GIT is None, reason="no git")
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


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def quarto(tmp_path: Path) -> Path:
    """A program that says that it is Quarto 9.9.9."""
    file = tmp_path / "quarto"
    file.write_text(f"#!{sys.executable}\nprint('9.9.9')\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def checkout(tmp_path: Path, quarto: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean checkout, with Quarto and MNIST at hand, at full scale."""
    root = tmp_path / "checkout"
    write(root, SOURCES)
    git(root.parent, "init", "-q", str(root))
    git(root, "add", "-A")
    git(root, "commit", "-qm", "All of it")
    monkeypatch.setenv("QUARTO", str(quarto))
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
            "report/one_files/figure-html/fig-a.png": png(drawing()),
        }
        write(checkout / "_book", pages | more)
        return checkout / "_book"

    return build


# --- refusals ------------------------------------------------------------------------------------


@needs_git
def test_a_clean_checkout_with_all_at_hand_is_ready(checkout, monkeypatch):
    commit = git(checkout, "rev-parse", "HEAD")
    assert publish.ready(checkout) == (commit, "Quarto 9.9.9")
    write(checkout, {"docs/index.html": "an edition that is not committed yet"})
    assert publish.ready(checkout) == (commit, "Quarto 9.9.9")
    monkeypatch.setenv("QUARTO", "no-such-quarto")
    monkeypatch.setenv("PUBLISH_WITH", "bookbinder")
    assert publish.ready(checkout)[1].startswith("bookbinder ")


@needs_git
@pytest.mark.parametrize("file", ["report/one.qmd", "report/new.qmd"])
def test_uncommitted_work_is_refused_by_name(checkout, file):
    write(checkout, {file: "# Changed\n"})
    with pytest.raises(Refused, match=f"uncommitted work .*{file}.*Commit it"):
        publish.ready(checkout)


@needs_git
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LAZY_ARTIST_SCALE", "quick", "scale is quick.*without SCALE"),
        ("QUARTO", "no-such-quarto", "Quarto is not here.*PUBLISH_WITH=bookbinder"),
        ("PUBLISH_WITH", "paper", "PUBLISH_WITH is paper: set it to quarto or bookbinder"),
    ],
)
def test_settings_that_make_no_edition_are_refused(checkout, monkeypatch, name, value, told):
    monkeypatch.setenv(name, value)
    with pytest.raises(Refused, match=told):
        publish.ready(checkout)


@needs_git
@pytest.mark.parametrize("source", ["procedural stand-in", "Fashion-MNIST (downloaded)"])
def test_other_digits_than_mnist_are_refused(checkout, monkeypatch, source):
    monkeypatch.setattr(publish, "load_digits", lambda split: SimpleNamespace(source=source))
    with pytest.raises(Refused, match=r"not MNIST but: .*Set LAZY_ARTIST_DATA"):
        publish.ready(checkout)


@needs_git
def test_the_real_loader_names_the_stand_in_so_that_it_is_refused(checkout, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "100")
    monkeypatch.delenv("LAZY_ARTIST_SCALE", raising=False)
    with pytest.raises(Refused, match="train digits are not MNIST but: procedural stand-in"):
        publish.ready(checkout)


def test_a_folder_without_git_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(Refused, match="Publish from a git checkout"):
        publish.ready(tmp_path)


# --- placing -------------------------------------------------------------------------------------


@needs_git
def test_an_edition_is_placed_whole_with_its_record(checkout, built):
    book = built()
    write(checkout, {"docs/old.html": "an older edition"})
    publish.place(checkout, book, checkout / "docs")
    placed, given = contents(checkout / "docs"), contents(book)
    assert set(placed) == set(given) | {".nojekyll", "edition.json"}
    picture = "report/one_files/figure-html/fig-a.png"
    assert len(placed[picture]) < 0.8 * len(given[picture])
    assert all(placed[name] == given[name] for name in given if name != picture)
    record = json.loads(placed["edition.json"])
    assert record["commit"] == git(checkout, "rev-parse", "HEAD")
    assert record["builder"] == "Quarto 9.9.9"
    assert set(record["sources"]) == set(SOURCES) - {"README.md", ".gitignore"}
    assert publish.faults(checkout / "docs") == []
    assert publish.lag(checkout, checkout / "docs") == ""
    assert git(checkout, "status", "--porcelain", "--", ".", ":(exclude)docs") == ""


@needs_git
def test_the_edition_has_the_styles_that_it_uses_and_no_index_of_an_unused_search(checkout, built):
    sheet, script = b".used{color:red}.made{color:red}.other{color:red}", b"add('made')"
    more = {"a.html": b'<p class="used">', "a.js": script, "search.json": b"[]", "a.css": sheet}
    publish.place(checkout, built(**more), checkout / "docs")
    found = contents(checkout / "docs")
    assert found["a.css"] == b".used{color:red}.made{color:red}"
    assert "search.json" not in found and found["a.js"] == script
    publish.place(checkout, built(**more | {"a.js": b"get('search.json')"}), checkout / "docs")
    assert "search.json" in contents(checkout / "docs")


@needs_git
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
    with pytest.raises(Refused, match=r"more than 0.*large.bin 0\.0"):
        publish.place(checkout, built(**{"large.bin": bytes(20_000)}), docs)
    monkeypatch.setattr(publish.compress, "png", lambda content: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish.place(checkout, built(), docs)
    assert contents(docs) == before
    assert not list(checkout.glob("_book.publish.*"))


def test_figures_of_the_edition_are_not_ignored_by_git():
    if GIT is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    for name, ignored in (
        ("docs/report/cheater_files/figure-html/fig-a.png", False),
        ("docs/index_files/figure-html/fig-a.png", False),
        ("docs/site_libs/bootstrap/bootstrap.min.css", False),
        ("report/cheater_files/figure-html/fig-a.png", True),
    ):
        done = subprocess.run([GIT, "check-ignore", "-q", "--no-index", name], cwd=ROOT)
        assert (done.returncode == 0) == ignored, name


def test_an_edition_takes_no_results_of_another_commit(monkeypatch):
    """Such as the colophon of an earlier build, which would name that build's commit."""
    before = execute.settings()
    monkeypatch.setenv("LAZY_ARTIST_COMMIT", "0123456789abcdef")
    assert execute.settings() != before


# --- damage and lag ------------------------------------------------------------------------------


@pytest.fixture
def docs(checkout: Path, built: Callable[..., Path]) -> Path:
    publish.place(checkout, built(), checkout / "docs")
    return checkout / "docs"


@needs_git
def test_damage_is_found(docs, monkeypatch):
    (docs / "index.html").unlink()
    (docs / "report/colophon.html").write_text("altered")
    (docs / "stray.html").write_text("")
    assert publish.faults(docs) == [
        "index.html is missing",
        "stray.html is in no record",
        "report/colophon.html is not as it was published",
    ]
    monkeypatch.setattr(publish, "LIMIT", 10)
    assert "more than 0" in publish.faults(docs)[-1]


@needs_git
@pytest.mark.parametrize("record", [None, "", "[]", "{", '{"commit": "a", "built": "b"}'])
def test_a_record_that_cannot_be_read_is_damage(docs, record):
    if record is None:
        (docs / "edition.json").unlink()
    else:
        (docs / "edition.json").write_text(record)
    assert publish.faults(docs) == [
        "docs/edition.json is missing or unreadable; run `make publish`"
    ]
    with pytest.raises(Refused, match="missing or unreadable"):
        publish.lag(docs.parent, docs)


@needs_git
def test_an_edition_lags_once_a_chapter_or_module_changes_and_nothing_else(docs, checkout):
    write(checkout, {"README.md": "Changed.", "tests/test_new.py": "", "docs.txt": ""})
    write(checkout, {"code/lazy_artist/__pycache__/one.pyc": "", "report/one_files/a.png": ""})
    write(checkout, {"report/.ipynb_checkpoints/a": "", "report/one.quarto_ipynb": ""})
    assert publish.lag(checkout, docs) == ""
    write(checkout, {"report/two.qmd": "# Two\n", "index.qmd": "# Changed\n"})
    (checkout / "code/lazy_artist/one.py").unlink()
    told = publish.lag(checkout, docs)
    assert "code/lazy_artist/one.py, index.qmd, report/two.qmd." in told
    assert git(checkout, "rev-parse", "HEAD")[:12] in told and "`make publish`" in told
    write(checkout, {f"report/more-{k}.qmd": "" for k in range(4)})
    assert "report/more-2.qmd and 2 more" in publish.lag(checkout, docs)


@needs_git
def test_the_command_says_what_it_found(checkout, built, capsys):
    assert publish.main(["check"]) == 0
    assert "nothing is published yet" in capsys.readouterr().out
    assert publish.main(["place"]) == 1
    assert "there is no book" in capsys.readouterr().err
    assert publish.main(["ready"]) == 0
    assert "with Quarto 9.9.9, at full scale, from MNIST" in capsys.readouterr().out
    built()
    assert publish.main(["place"]) == 0
    assert "published" in capsys.readouterr().out
    assert publish.main(["check"]) == 0
    assert "as new as the chapters and modules" in capsys.readouterr().out
    write(checkout, {"index.qmd": "# Changed\n"})
    assert publish.main(["check"]) == 0  # a lag is told, and no error
    assert "changed since: index.qmd." in capsys.readouterr().out
    os.remove(checkout / "docs/index.html")
    assert publish.main(["check"]) == 1
    assert "index.html is missing" in capsys.readouterr().err
