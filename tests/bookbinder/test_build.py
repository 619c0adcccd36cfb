"""Whole builds with real kernels: what they see, what is executed again, and how they fail."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from making import contents

from bookbinder import __version__
from bookbinder.__main__ import main
from bookbinder.build import replacing

# Each execution of a chapter leaves one letter in the file `log` of the project's folder.
LOGGING = "```{{python}}\n#| include: false\nprint('{0}', file=open('log', 'a'))\n```\n"


def run(root: Path, *chapters: str) -> int:
    files = [argument for chapter in chapters for argument in ("--chapter", chapter)]
    return main(["--project", str(root), *files])


def executed(root: Path, *chapters: str) -> str:
    """The letters that a build of these chapters leaves."""
    assert run(root, *chapters) == 0
    written = (root / "log").read_text().split() if (root / "log").exists() else []
    (root / "log").unlink(missing_ok=True)
    return "".join(written)


def test_a_book_is_built_from_what_its_kernels_gave(project, monkeypatch, capsys):
    monkeypatch.setenv("GREETING", "hello")
    text = (
        f"# A\n```{{python}}\nimport os, sys\nPYTHON = {sys.executable!r}\n```\n"
        "```{python}\n#| label: fig-a\n#| fig-cap: An empty frame.\n#| fig-alt: A frame.\n"
        "import matplotlib.pyplot as plt\n"
        "figure, axes = plt.subplots(figsize=(2, 1))\nplt.show()\n```\n"
        "`{python} os.environ['GREETING']`, `{python} os.environ['LAZY_ARTIST_BUILDER']`,\n"
        "`{python} os.path.basename(os.getcwd())`, `{python} sys.executable == PYTHON`.\n"
    )
    post = "import os\nopen(os.environ['QUARTO_PROJECT_OUTPUT_DIR'] + '/done', 'w').close()\n"
    config = "project: {post-render: post.py}\nbook: {chapters: [index.qmd, report/a.qmd]}\n"
    root = project({"report/a.qmd": text, "post.py": post, "_quarto.yml": config})
    assert run(root) == 0
    assert f"by bookbinder {__version__}" in capsys.readouterr().out
    book = root / "_book"
    page = BeautifulSoup((book / "report/a.html").read_text("utf-8"), "html.parser")
    expected = f"hello, bookbinder {__version__}, book, True."
    assert " ".join(page.select_one("main > p").get_text().split()) == expected
    image = (book / "report" / page.select_one("#fig-a img")["src"]).read_bytes()
    pixels = int.from_bytes(image[16:20], "big")
    assert int(page.img["width"]) == pixels // 2 and 150 < pixels // 2 < 250  # 2 in at 96 dpi
    assert (book / "done").is_file() and not list(root.glob("_book.*"))
    (root / "post.py").write_text("raise SystemExit(3)\n")
    assert run(root, "index.qmd") == 1
    assert "post-render 'post.py' failed" in capsys.readouterr().err


def test_a_failing_cell_is_named_and_leaves_the_last_good_book(project, capsys):
    root = project({"a.qmd": "# A\nGood.\n"})
    assert run(root) == 0
    good = contents(root / "_book")
    sums = "```{python}\n#| label: sums\nx = 1\nraise KeyError('no sum')\n```\n"
    for text, told in (
        (sums, "a.qmd:3: cell sums failed: KeyError: 'no sum'"),
        ("It is `{python} unknown`.\n", "a.qmd:3: `unknown` failed: NameError"),
        ("```{python}\nimport os; os._exit(3)\n```\n", "a.qmd:3: cell ended the kernel"),
        (LOGGING.format("a") + "{{< video x >}}\n", "a.qmd:7: shortcodes"),
    ):
        (root / "a.qmd").write_text(f"# A\n\n{text}")
        assert run(root) == 1
        message = capsys.readouterr().err
        assert told in message and "\x1b" not in message
        assert ("line 2" in message) == (text == sums)
        assert contents(root / "_book") == good and not list(root.glob("_book.*"))
    assert not (root / "log").exists()  # a refused book runs nothing


def test_only_what_is_asked_for_or_changed_is_executed_again(project, capsys):
    files = {
        "z.qmd": "---\nbookbinder: {after: all, always: true}\n---\n# Z\n" + LOGGING.format("z"),
        "y.qmd": "---\nbookbinder: {after: those}\n---\n# Y\n" + LOGGING.format("y"),
        "x.qmd": "---\nbookbinder: {after: earlier}\n---\n# X\n" + LOGGING.format("x"),
        "a.qmd": "# A\n" + LOGGING.format("a") + "`{python} 1 + 1`\n",
        "b.qmd": "# B\n" + LOGGING.format("b"),
    }
    root = project(files)
    first = executed(root, "a.qmd")
    assert sorted(first[:2]) == ["a", "b"] and first[2:] == "xyz"  # all were new
    assert executed(root, "a.qmd") == "az"
    (root / "b.qmd").write_text(files["b.qmd"] + "More.\n")
    assert executed(root, "z.qmd") == "bz"
    assert "<p>2</p>" in (root / "_book/a.html").read_text("utf-8")  # kept from the first build
    for kept in Path(os.environ["LAZY_ARTIST_CACHE"]).rglob("a.ipynb"):
        kept.write_text(kept.read_text()[:-40])
    assert executed(root, "z.qmd") == "az"  # a damaged notebook is not used
    assert run(root, "gone.qmd") == 1
    assert "gone.qmd:1: no chapter of this book; it has a.qmd" in capsys.readouterr().err


def test_kept_results_are_of_the_same_settings(project, monkeypatch):
    """Such as the colophon of an earlier build, which would name that build's commit."""
    root = project({"a.qmd": "# A\n" + LOGGING.format("a")})
    assert executed(root) == "a"
    for name in ("SCALE", "SOURCE", "SEALED", "COMMIT"):
        monkeypatch.setenv(f"LAZY_ARTIST_{name}", "other")
        assert executed(root, "index.qmd") == "a"
        assert executed(root, "index.qmd") == ""


def test_a_book_that_cannot_be_put_in_place_leaves_the_last_one(tmp_path):
    (tmp_path / "book").mkdir()
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "book"):
        pass  # nothing is made
    assert [path.name for path in tmp_path.iterdir()] == ["book"]


def test_a_long_folder_for_temporary_files_is_refused_with_the_remedy(project, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", "/" + 74 * "t")
    assert run(project({"a.qmd": "# A\n\n```{python}\n1\n```\n"})) == 1
    told = capsys.readouterr().err
    assert "long name (75 characters)" in told and "set TMPDIR=/tmp" in told
