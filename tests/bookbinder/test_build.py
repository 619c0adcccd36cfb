"""Whole builds with real kernels: what they see, what is executed again, and how they fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

import bookbinder
from bookbinder import __version__
from bookbinder.__main__ import main

# Each execution of a chapter leaves one letter in the file `log` of the project's folder.
LOGGING = "```{{python}}\n#| include: false\nprint('{0}', file=open('log', 'a'))\n```\n"


def run(root: Path, *chapters: str) -> int:
    files = [argument for chapter in chapters for argument in ("--chapter", chapter)]
    return main(["--project", str(root), *files])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def log(root: Path) -> str:
    written = (root / "log").read_text().split() if (root / "log").exists() else []
    (root / "log").unlink(missing_ok=True)
    return "".join(written)


def test_a_book_is_built_from_what_its_kernels_gave(project, monkeypatch, capsys):
    monkeypatch.setenv("GREETING", "hello")
    text = (
        "# A\n"
        "```{python}\n"
        "#| label: fig-a\n#| fig-cap: An empty frame.\n#| fig-alt: A frame.\n"
        "from matplotlib.figure import Figure\n"
        "figure = Figure(figsize=(2, 1))\n"
        "figure.add_subplot()\n"
        "figure\n"
        "```\n"
        "`{python} os.environ['GREETING']`, `{python} os.environ['LAZY_ARTIST_BUILDER']`,\n"
        "`{python} os.path.basename(os.getcwd())`, `{python} sys.executable == PYTHON`.\n"
    ).replace("# A\n", f"# A\n```{{python}}\nimport os, sys\nPYTHON = {sys.executable!r}\n```\n")
    post = "import os\nopen(os.environ['QUARTO_PROJECT_OUTPUT_DIR'] + '/done', 'w').close()\n"
    config = (
        "project:\n  type: book\n  post-render: [post.py]\n"
        "book:\n  chapters: [index.qmd, report/a.qmd]\n"
    )
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
    assert (book / "done").is_file()
    assert sorted(path.name for path in root.iterdir()) == [
        *("_book", "_quarto.yml", "index.qmd", "post.py", "report")
    ]


def test_a_failing_cell_leaves_the_last_good_book(project, capsys):
    root = project({"a.qmd": "# A\nGood.\n", "b.qmd": "# B\n"})
    assert run(root) == 0
    good = contents(root / "_book")
    (root / "b.qmd").write_text("# B\nNow changed.\n")
    (root / "a.qmd").write_text(
        "# A\n\n```{python}\n#| label: sums\nx = 1\nraise KeyError('no sum')\n```\n"
    )
    assert run(root) == 1
    message = capsys.readouterr().err
    assert "a.qmd:3: cell sums failed: KeyError: 'no sum'" in message
    assert "line 2" in message and "\x1b" not in message
    assert contents(root / "_book") == good
    assert not list(root.glob("_book.*"))


def test_a_failing_inline_value_is_named(project, capsys):
    root = project({"a.qmd": "# A\n\nIt is `{python} unknown`.\n"})
    assert run(root) == 1
    assert "a.qmd:3: `unknown` failed: NameError" in capsys.readouterr().err
    assert not (root / "_book").exists()


def test_a_kernel_that_dies_is_named(project, capsys):
    root = project({"a.qmd": "# A\n```{python}\nimport os; os._exit(3)\n```\n"})
    assert run(root) == 1
    assert "a.qmd:2: cell ended the kernel" in capsys.readouterr().err


def test_a_refused_book_runs_nothing(project, capsys):
    root = project({"a.qmd": "# A\n" + LOGGING.format("a") + "{{< video x >}}\n"})
    assert run(root) == 1
    assert "a.qmd:6: shortcodes" in capsys.readouterr().err
    assert log(root) == ""


def test_only_what_is_asked_for_or_changed_is_executed_again(project, monkeypatch, capsys):
    last = "---\ntitle: Last\nbookbinder: {after: all, always: true}\n---\n"
    files = {
        "z.qmd": last + LOGGING.format("z"),
        "a.qmd": "# A\n" + LOGGING.format("a") + "`{python} 1 + 1`\n",
        "b.qmd": "# B\n" + LOGGING.format("b"),
    }
    root = project(files)
    assert run(root, "a.qmd") == 0
    assert sorted(log(root)[:2]) == ["a", "b"]  # never executed before; z would be the third
    assert run(root, "a.qmd") == 0
    assert log(root) == "az"
    (root / "b.qmd").write_text(files["b.qmd"] + "More.\n")
    assert run(root, "z.qmd") == 0
    assert log(root) == "bz"
    page = (root / "_book/a.html").read_text("utf-8")
    assert "<p>2</p>" in page  # kept from the first build
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    assert run(root, "z.qmd") == 0
    assert sorted(log(root)) == ["a", "b", "z"]
    for kept in Path(os.environ["LAZY_ARTIST_CACHE"]).rglob("a.ipynb"):
        kept.write_text(kept.read_text()[:-40])
    assert run(root, "z.qmd") == 0  # a damaged notebook is not used
    assert log(root) == "az"
    assert run(root) == 0
    assert log(root)[-1] == "z"
    assert run(root, "gone.qmd") == 1
    assert "gone.qmd:1: no chapter of this book; it has a.qmd" in capsys.readouterr().err


def test_coming_last_does_not_mean_being_executed_again(project):
    last = "---\ntitle: Last\nbookbinder: {after: all}\n---\n"
    files = {"z.qmd": last + LOGGING.format("z"), "a.qmd": "# A\n" + LOGGING.format("a")}
    root = project(files)
    assert run(root) == 0
    assert log(root) == "az"
    assert run(root, "a.qmd") == 0
    assert log(root) == "a"


def test_a_failing_post_render_is_reported(project, capsys):
    config = "project:\n  post-render: post.py\nbook:\n  chapters: [index.qmd]\n"
    root = project({"_quarto.yml": config, "post.py": "raise SystemExit(3)\n"})
    assert run(root) == 1
    assert "post-render 'post.py' failed" in capsys.readouterr().err


def test_a_wrong_number_of_jobs_is_refused(project, monkeypatch, capsys):
    monkeypatch.setenv("BOOKBINDER_JOBS", "many")
    assert run(project({})) == 1
    assert "BOOKBINDER_JOBS=many" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="interrupts differ there")
def test_an_interrupt_ends_the_kernels_and_keeps_the_book(project):
    cell = "```{python}\nimport os, time\nprint(os.getpid(), file=open('pid', 'w'), flush=True)\n"
    root = project({"a.qmd": "# A\n" + cell + "time.sleep(60)\n```\n"})
    (root / "_book").mkdir()
    (root / "_book/index.html").write_text("the last good one")
    command = [sys.executable, "-m", "bookbinder", "--project", str(root)]
    build = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    pid = root / "pid"
    deadline = time.monotonic() + 60
    while not (pid.exists() and pid.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    build.send_signal(signal.SIGINT)
    _, message = build.communicate(timeout=60)
    assert build.returncode == 130
    assert message.startswith("bookbinder: interrupted")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert contents(root / "_book") == {"index.html": b"the last good one"}


def test_a_profile_builds_its_own_book_in_its_own_words(project, monkeypatch):
    """The filter sees results of cells and alternative texts; the other book stays as it is."""
    words = Path(bookbinder.__file__).with_name("assets") / "words.lua"
    cells = LOGGING.format("a") + "\n`{python} 'digit ' + os.environ['SOURCE']`, a digit.\n"
    root = project(
        {
            "report/a.qmd": "# A digit\n\n```{python}\nimport os\n```\n" + cells,
            "report/b.qmd": "# B digit\n",
            "_quarto-other.yml": (
                "project:\n  output-dir: _book-other\n"
                "filters: [words.lua]\nmetadata-files: [words.yml]\n"
            ),
            "_environment-other": "SOURCE=others\n",
            "words.lua": words.read_text(encoding="utf-8"),
            "words.yml": "edition:\n  same: [b]\n  words:\n    digit: garment\n",
        }
    )
    monkeypatch.setenv("QUARTO_PROFILE", "")  # main sets them, until the test's end
    monkeypatch.setenv("SOURCE", "plain")
    assert run(root) == 0
    plain = contents(root / "_book")
    assert b"digit plain, a digit." in plain["report/a.html"]
    assert log(root) == "a"
    del os.environ["SOURCE"]
    assert main(["--project", str(root), "--profile", "other"]) == 0
    other = contents(root / "_book-other")
    assert b"garment others, a garment." in other["report/a.html"]
    assert b"A garment" in other["report/a.html"] and b"B digit" in other["report/b.html"]
    assert contents(root / "_book") == plain
    assert log(root) == "a"
    os.environ.update(QUARTO_PROFILE="", SOURCE="plain")
    assert run(root, "index.qmd") == 0  # and its cells are kept apart
    assert log(root) == "" and contents(root / "_book") == plain
