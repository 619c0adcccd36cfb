"""The editions: whose words, names and folders a process has, and a catalogue without gaps."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pypandoc
import pytest
import yaml

from bookbinder.source import Prose, read_book
from lazy_artist import claims, edition
from lazy_artist.data import cache_dir, load_digits

ROOT = Path(__file__).resolve().parents[2]
FILTER = ROOT / "code" / "bookbinder" / "assets" / "words.lua"
# Texts that are no chapter's, but pass through `edition.words`: in them, too, phrases may occur
MODULES = sorted((ROOT / "code" / "lazy_artist").rglob("*.py"))
DIGITS_WORDS = re.compile(
    r"\b(?:digits?|zeros|(?:red|green) (?:zero|ones?)|sevens?|threes|nines|handwrit\w+|strokes?"
    r"|(?:an?|no|the) [1-9]s?(?= |, |\. |$))",
    re.I,
)


@pytest.fixture(autouse=True)
def no_edition_asked_for(monkeypatch):
    for name in (
        "QUARTO_PROFILE",
        "QUARTO_PROJECT_ROOT",
        "LAZY_ARTIST_SOURCE",
        "LAZY_ARTIST_BUILDER",
    ):
        monkeypatch.delenv(name, raising=False)
    yield
    edition._same_everywhere = False


@pytest.fixture
def fashion(monkeypatch):
    monkeypatch.setenv("QUARTO_PROFILE", "fashion")
    monkeypatch.setenv("LAZY_ARTIST_SOURCE", "fashion-mnist")


@pytest.fixture(scope="module")
def prose() -> dict[str, str]:
    """By chapter (stem of its file), its text outside code, with captions, in one line each."""
    texts = {}
    for chapter in read_book(ROOT).chapters:
        parts = []
        for piece in chapter.pieces:
            if isinstance(piece, Prose):
                parts += [] if piece.verbatim else re.split(r"\n\s*\n", piece.text)
            elif piece.options:
                parts += [
                    str(piece.options.get(f"{k}", "")) for k in ("fig-cap", "fig-alt", "tbl-cap")
                ]
                parts += re.findall(r'"((?:[^"\\]|\\.)*)"', piece.source)
        texts[Path(chapter.file).stem] = "\n".join(" ".join(part.split()) for part in parts)
    return texts


def test_without_a_switch_all_is_of_the_digits():
    assert edition.name() == "digits"
    assert edition.class_names() == tuple("0123456789")
    assert edition.words("red ones called the digit of their ink") == (
        "red ones called the digit of their ink"
    )
    assert edition.reason("oracle-hard") == ""
    assert edition.built() == cache_dir()


def test_the_fashion_edition_has_names_words_and_a_folder_of_its_own(fashion):
    assert edition.name() == "fashion"
    assert edition.class_names()[0] == "T-shirt" and len(set(edition.class_names())) == 10
    assert edition.words("Digits, and red\nones: a 7 seen as a 3") == (
        "Garments, and red trousers: a sneaker seen as a dress"
    )
    assert edition.reason("oracle-hard")
    assert edition.built() == cache_dir() / "fashion"


def test_phrases_fit_whole_words_and_the_longest_wins(fashion):
    assert edition.words("digitally indigits") == "digitally indigits"
    assert edition.words("digit-by-ink") == "garment-by-ink"
    assert edition.words("From zero to one") == "From T-shirt to trouser"
    assert edition.words("a 3.5") == "a dress.5"  # no phrase knows numbers: see the next test


def test_words_said_again_stay_as_they_are(fashion):
    for phrase, said in edition.catalogue()["words"].items():
        again = edition.words(edition.words(phrase))
        if not DIGITS_WORDS.search(said):  # what speaks of MNIST's digits does so in one pass
            assert again == edition.words(phrase), phrase


def test_images_or_profile_alone_are_told_apart(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_SOURCE", "fashion-mnist")
    assert edition.name() == "fashion"
    edition.begin_chapter("cheater")  # by hand, in a notebook: fine
    monkeypatch.setenv("LAZY_ARTIST_BUILDER", "bookbinder")
    with pytest.raises(ValueError, match="make report EDITION=fashion"):
        edition.begin_chapter("cheater")
    monkeypatch.setenv("QUARTO_PROFILE", "fashion")
    edition.begin_chapter("cheater")
    monkeypatch.setenv("LAZY_ARTIST_SOURCE", "mnist")
    with pytest.raises(ValueError, match="LAZY_ARTIST_SOURCE is mnist: unset it"):
        edition.begin_chapter("cheater")


def test_chapters_on_mnist_read_its_digits_and_keep_their_words(fashion, monkeypatch):
    built = edition.built()
    edition.begin_chapter("challenge-cnn")
    assert os.environ["LAZY_ARTIST_SOURCE"] == "auto"
    assert edition.words("digits") == "digits" and edition.class_names()[3] == "3"
    assert edition.built() == built
    edition.begin_chapter("cheater")
    assert os.environ["LAZY_ARTIST_SOURCE"] == "fashion-mnist"
    assert edition.words("digits") == "garments"


def test_a_challenge_is_given_mnist_where_the_edition_is_not(fashion, tmp_path, monkeypatch):
    """No data set is at hand: MNIST's stand-in is read, and not an error of Fashion-MNIST."""
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path))
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(tmp_path))
    monkeypatch.setenv("LAZY_ARTIST_OFFLINE", "1")
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "60")
    edition.begin_chapter("challenge-transformer")
    with pytest.warns():
        assert "procedural" in load_digits("test").source


def test_a_claim_that_fails_says_why_in_the_edition_only(fashion, tmp_path, monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path))
    claims.begin_chapter("cheater")
    made = claims.claim("oracle-hard", "the oracle reads hard images", 0.9, ">=", 0.985)
    assert made.statement == "the oracle recognises hard images"
    assert "Why in this edition" in made._repr_markdown_()
    other = claims.claim("no-such", "another digit", 0.9, ">=", 0.985)
    assert "Why" not in other._repr_markdown_()
    told = claims.reasons([made, other])
    assert edition.reason("oracle-hard") in told and "`no-such`: we have not found out." in told
    assert list((tmp_path / "fashion" / "claims" / "cheater").glob("*.json"))
    monkeypatch.delenv("QUARTO_PROFILE")
    monkeypatch.delenv("LAZY_ARTIST_SOURCE")
    assert "Why" not in made._repr_markdown_() and claims.reasons([made, other]) == ""


def test_every_phrase_of_the_catalogue_occurs_in_the_book(prose):
    same = edition.catalogue()["same"]
    book = "\n".join(text for stem, text in prose.items() if stem not in same)
    book += " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in MODULES)
    missing = [
        phrase for phrase in edition.catalogue()["words"] if phrase.lower() not in book.lower()
    ]
    assert not missing, f"reworded in the chapters, but not in fashion.yml: {missing}"


def test_no_digit_is_left_over_in_the_fashion_edition(fashion, prose):
    pattern, _ = edition._phrases()
    left = {}
    for stem, text in prose.items():
        if stem not in edition.catalogue()["same"]:
            text = re.sub(r"`[^`]*`|\[?@[\w-]+|\]\([^)]*\)|\{[^}]*\}|\$[^$]*\$", " ", text)
            text = pattern.sub("§", text)
            if found := [
                text[max(0, m.start() - 40) : m.end() + 20] for m in DIGITS_WORDS.finditer(text)
            ]:
                left[stem] = found
    assert not left, f"say it otherwise in fashion.yml: {left}"


def test_chapters_and_claims_that_the_catalogue_names_are_in_the_book(prose):
    catalogue = edition.catalogue()
    assert set(catalogue["same"]) <= set(prose)
    cells = "\n".join((ROOT / c.file).read_text("utf-8") for c in read_book(ROOT).chapters)
    for claim in catalogue["reasons"]:
        assert f'claim("{claim}"' in cells


def test_quarto_is_given_the_same_catalogue():
    profile = yaml.safe_load((ROOT / "_quarto-fashion.yml").read_text(encoding="utf-8"))
    assert [ROOT / file for file in profile["metadata-files"]] == [edition.CATALOGUE]
    assert [ROOT / file for file in profile["filters"]] == [FILTER]
    assert profile["project"]["output-dir"] != "_book"


def filtered(text: str, *options: str) -> str:
    return pypandoc.convert_text(
        text,
        "markdown",
        format="markdown",
        extra_args=[
            "--wrap=none",
            f"--lua-filter={FILTER}",
            f"--metadata-file={edition.CATALOGUE}",
            *options,
        ],
    ).strip()


def test_pages_and_figures_speak_alike(fashion, prose):
    """Prose passes through the Lua filter, all else through Python: by the same rules."""
    for stem, text in prose.items():
        plain = re.sub(r"[^\w\s.,;?!'-]", " ", text)
        plain = "\n\n".join(
            " ".join(line.split()) for line in plain.splitlines() if line.strip(" -.0123456789")
        )
        once = pypandoc.convert_text(plain, "plain", "markdown", extra_args=["--wrap=none"])
        twice = filtered(plain, "--to=plain")
        assert twice.split("\n\n") == edition.words(once).strip().split("\n\n"), stem


def test_a_page_keeps_its_code_its_formulas_and_its_markup():
    text = 'A *digit*, `digit` and $digit$: "red ones" [@lecun1998gradient]; the ink\'s\ndigit.'
    assert filtered(text) == (
        'A *garment*, `digit` and $digit$: "red trousers" [@xiao2017fashion]; the ink\'s garment.'
    )
    image = '![A digit.](x.png){alt="Red ones" width="3"}'
    assert filtered(image) == '![A garment.](x.png){alt="Red trousers" width="3"}'
    table = "| digit | b |\n|-------|---|\n| 1     | 2 |"
    assert "| garment |" in filtered(table, "--to=gfm")


def test_a_page_that_is_the_same_in_every_edition_is_left_alone():
    assert filtered("digits", "--metadata=chapter:report/challenge-cnn.qmd") == "digits"
    assert filtered("digits", "--metadata=chapter:report/cheater.qmd") == "garments"
