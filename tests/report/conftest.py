"""The built books that the checks of this folder look at."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from browsing import browser  # noqa: F401  (a fixture)

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = Path(__file__).with_name("sample")


def _build_sample(folder: Path, command: list[str]) -> Path:
    """Builds a copy of the sample book, in the report's own theme; returns its pages' folder."""
    project = folder / "sample"
    shutil.copytree(SAMPLE, project, ignore=shutil.ignore_patterns("_book", ".quarto", "*_files"))
    configuration = yaml.safe_load((project / "_quarto.yml").read_text())
    report = yaml.safe_load((ROOT / "_quarto.yml").read_text())
    configuration["format"]["html"]["theme"] = report["format"]["html"]["theme"]
    (project / "_quarto.yml").write_text(yaml.safe_dump(configuration, sort_keys=False))
    (project / "report").mkdir()
    for theme in (ROOT / "report").glob("*.scss"):
        shutil.copy(theme, project / "report")
    environment = os.environ | {"QUARTO_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    environment["LAZY_ARTIST_CACHE"] = str(folder / "cache")
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}"
    return project / "_book"


@pytest.fixture(scope="session")
def sample_by_bookbinder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bookbinder")
    command = [sys.executable, "-m", "bookbinder", "--project", str(folder / "sample")]
    return _build_sample(folder, command)


@pytest.fixture(scope="session")
def sample_by_quarto(tmp_path_factory: pytest.TempPathFactory) -> Path:
    quarto = shutil.which(os.environ.get("QUARTO", "quarto"))
    if quarto is None:
        pytest.skip("no Quarto: put `quarto` on PATH or set QUARTO")
    return _build_sample(tmp_path_factory.mktemp("quarto"), [quarto, "render"])


@pytest.fixture(scope="session")
def project_book() -> Path:
    if not (ROOT / "_book" / "index.html").is_file():
        pytest.skip("the report is not built: make report")
    return ROOT / "_book"


@pytest.fixture(scope="session")
def project_book_by_quarto() -> Path:
    folder = os.environ.get("LAZY_ARTIST_BOOK_QUARTO")
    if not folder:
        pytest.skip("LAZY_ARTIST_BOOK_QUARTO names no second build of the report")
    return Path(folder).resolve()


BOOKS = ("sample_by_bookbinder", "sample_by_quarto", "project_book", "project_book_by_quarto")


@pytest.fixture(scope="session", params=BOOKS)
def book(request: pytest.FixtureRequest) -> Path:
    """The folder of a built book: each of `BOOKS` in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def make_book(tmp_path: Path) -> Callable[..., Path]:
    """make_book(body, head, files) -> a book of one such page, for checks to find fault with."""

    def make(body: str, head: str = "", files: dict[str, str] | None = None) -> Path:
        page = f"<!DOCTYPE html><html><head><title>t</title>{head}</head><body>{body}</body></html>"
        for name, text in {"index.html": page, **(files or {})}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return make
