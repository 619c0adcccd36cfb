"""The claims: what holds, what is refused, what the ledger and claims.json say."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazy_artist import claims
from lazy_artist.claims import begin_chapter, claim, ledger_table, main

BOOK = """
book:
  title: A book
  chapters:
    - index.qmd
    - report/cheater.qmd
    - part: "The cure"
      chapters:
        - report/canvas.qmd
  appendices:
    - report/notes.qmd
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty cache, no chapter begun, and an empty current folder."""
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LAZY_ARTIST_SCALE", raising=False)
    monkeypatch.setattr(claims, "_chapter", None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def book(place):
    (place / "_quarto.yml").write_text(BOOK)
    (place / "_book").mkdir()
    (place / "report").mkdir()
    for name in ("index", "report/cheater", "report/canvas", "report/notes"):
        (place / f"{name}.qmd").write_text("text")
        os.utime(place / f"{name}.qmd", (1, 1))
    return place


def simple(id="it-holds", **changes):
    """A claim that holds, unless `changes` say otherwise."""
    arguments = {"statement": "It holds.", "value": 1, "op": "<", "threshold": 2} | changes
    return claim(id, **arguments)


def ledger(chapters=("canvas", "cheater")):
    return [made for chapter in chapters for made in claims._read(chapter)]


@pytest.mark.parametrize(
    ("op", "below", "equal", "above"),
    [
        ("<", True, False, False),
        ("<=", True, True, False),
        (">", False, False, True),
        (">=", False, True, True),
        ("==", False, True, False),
    ],
)
def test_each_op_compares_value_with_threshold(op, below, equal, above):
    begin_chapter("cheater")
    holds = [simple(f"c-{i}", value=v, op=op, threshold=0.5).holds for i, v in enumerate((0, 0.5))]
    holds.append(simple("c-2", value=0.51, op=op, threshold=0.5).holds)
    assert holds == [below, equal, above]
    assert not simple("c-nan", value=math.nan, op=op, threshold=0.5).holds


def test_a_claim_keeps_what_it_was_given_in_plain_types(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    begin_chapter("cheater")
    made = claim(
        "cheater-hard",
        "It\n  collapses.",
        np.float64(0.25),
        "<",
        np.int64(1),
        (np.float32(0.125), 0.5),
        np.int64(3),
    )
    assert made == claims.Claim(
        *("cheater-hard", "cheater", "It collapses.", 0.25, "<", 1, (0.125, 0.5), 3, True, "quick")
    )
    assert [type(x) for x in (made.value, made.threshold, made.interval[0], made.n)] == [
        float,
        int,
        float,
        int,
    ]
    assert ledger() == [made]


def test_the_shown_line_is_a_fenced_div_that_does_not_rely_on_colour():
    begin_chapter("cheater")
    made = claim("cheater-hard", "The cheater collapses.", 0.0412, "<", 0.2, (0.031, 0.0523), 3)
    assert made._repr_markdown_() == (
        "::: {.claim .claim-holds}\n"
        "**✓ holds** `cheater-hard`: The cheater collapses. "
        r"(measured 0.041, 95% interval \[0.031, 0.052\]; criterion \< 0.2; 3 seeds)"
        "\n:::\n"
    )
    failed = claim("cheater-easy", "It reads.", 0.5, ">=", 0.95, n=1)
    assert failed._repr_markdown_() == (
        "::: {.claim .claim-fails}\n"
        "**✗ fails** `cheater-easy`: It reads. (measured 0.5; criterion ≥ 0.95; 1 seed)"
        "\n:::\n"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0412, "0.041"),
        (0.00412, "0.0041"),
        (3.2e-6, "3.2e-06"),
        (0.95, "0.95"),
        (0.9996, "1.000"),  # not "1": something was rounded away
        (-0.5, "-0.5"),
        (12.345, "12.3"),
        (55000, "55,000"),
        (55000.0, "55,000"),
        (0, "0"),
        (1e20, "1.0e+20"),
        (math.nan, "n/a"),
        (-math.inf, "-∞"),
    ],
)
def test_numbers_are_short(value, text):
    assert claims._number(value) == text


@given(st.floats(-1e300, 1e300), st.integers(3, 8))
def test_short_numbers_are_near_the_number(x, digits):
    text = claims._number(x, digits)
    assert float(text.replace(",", "")) == pytest.approx(x, rel=0.06, abs=1e-300)


def test_a_narrow_failure_is_not_rounded_to_its_threshold():
    begin_chapter("cheater")
    narrow = simple("narrow", value=0.94996, op=">=", threshold=0.95)
    assert "(measured 0.94996; criterion ≥ 0.95)" in narrow._repr_markdown_()
    strict = simple("strict", value=0.98, op=">=", threshold=0.9995)
    assert "(measured 0.98; criterion ≥ 0.9995)" in strict._repr_markdown_()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"op": "!="}, ValueError, "'!='.*<, <=, >, >=, =="),
        ({"id": "Bad_Id"}, ValueError, "Bad_Id.*lowercase"),
        ({"id": "../x"}, ValueError, "lowercase"),
        ({"statement": " "}, ValueError, "empty statement"),
        ({"value": True}, TypeError, "value must be a number, not True"),
        ({"value": np.bool_(True)}, TypeError, "value must be a number"),
        ({"value": "0.5"}, TypeError, "value must be a number"),
        ({"value": np.zeros(2)}, TypeError, "value must be a number"),
        ({"threshold": None}, TypeError, "threshold must be a number"),
        ({"threshold": math.nan}, ValueError, "threshold is NaN"),
        ({"interval": (2, 1)}, ValueError, "reversed"),
        ({"interval": (1, "2")}, TypeError, "interval must be a number"),
        ({"n": 0}, ValueError, "at least 1"),
        ({"n": 2.5}, ValueError, "n is 2.5"),
        ({"n": True}, TypeError, "n must be a number"),
    ],
)
def test_bad_input_is_refused_by_name_and_leaves_no_record(changes, error, words):
    begin_chapter("cheater")
    with pytest.raises(error, match=words):
        simple(**changes)
    assert ledger() == []


def test_a_claim_outside_a_chapter_says_what_to_call():
    with pytest.raises(RuntimeError, match=r"begin_chapter\(name\)"):
        simple()


@pytest.mark.parametrize("name", ["Cheater", "a/b", "", "a--b", "..", "a.qmd"])
def test_a_bad_chapter_name_is_refused(name):
    with pytest.raises(ValueError, match="lowercase"):
        begin_chapter(name)


def test_the_ledger_keeps_the_order_within_a_chapter():
    for chapter, ids in (("cheater", ["z", "a", "m"]), ("canvas", ["k", "b"])):
        begin_chapter(chapter)
        for id in ids:
            simple(id)
    assert [made.id for made in ledger(["cheater", "canvas"])] == ["z", "a", "m", "k", "b"]
    assert [made.id for made in ledger(["canvas", "absent"])] == ["k", "b"]


def test_a_cell_run_again_replaces_its_claim_and_keeps_its_place():
    begin_chapter("cheater")
    simple("first")
    simple("second")
    simple("first", value=5)
    assert [(made.id, made.value) for made in ledger()] == [("first", 5), ("second", 1)]


def test_beginning_a_chapter_forgets_its_claims_only():
    begin_chapter("canvas")
    simple("kept")
    begin_chapter("cheater")
    simple("forgotten")
    begin_chapter("cheater")
    assert [made.id for made in ledger()] == ["kept"]


def test_a_duplicate_is_refused_in_the_chapter_or_by_the_ledger_of_the_book(book):
    begin_chapter("canvas")
    simple("same")
    with pytest.raises(ValueError, match="'same' is made twice in chapter 'canvas'"):
        simple("same", statement="Something else.")
    begin_chapter("cheater")
    simple("same")
    with pytest.raises(ValueError, match="'same' of chapter 'canvas'.*in chapter 'cheater'"):
        claims.book_ledger()
    begin_chapter("canvas")  # it has moved
    assert [(made.chapter, made.statement) for made in claims.book_ledger()] == [
        ("cheater", "It holds.")
    ]


def test_a_damaged_record_is_named():
    begin_chapter("cheater")
    simple("it-holds")
    claims._path("cheater").write_text('{"id": ')
    with pytest.raises(ValueError, match=r"cheater\.json are damaged: delete the file"):
        ledger()


def test_a_failed_write_leaves_the_old_record_and_nothing_else(monkeypatch):
    begin_chapter("cheater")
    simple("it-holds")

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            simple("it-holds", value=0)
    assert [made.value for made in ledger()] == [1]
    assert [path.name for path in claims._path("x").parent.glob("*")] == ["cheater.json"]


def test_the_table_holds_markdown_texts():
    begin_chapter("cheater")
    simple("a", statement=r"Between | and \|.", value=0.0412, threshold=0.2, interval=(0, 1), n=3)
    simple("b", value=3, op="==", threshold=2)
    table = ledger_table(ledger())
    assert list(table) == ["Holds", "Claim", "Measured", "Criterion"]
    assert table.values.tolist() == [
        [
            "✓\u00a0holds",
            r"`a` (cheater): Between \| and \|.",
            r"0.041 \[0, 1\], 3 seeds",
            r"\< 0.2",
        ],
        ["✗\u00a0fails", "`b` (cheater): It holds.", "3", "= 2"],
    ]
    assert len(ledger_table([])) == 0


def test_main_writes_the_claims_of_the_book_in_its_order(book, capsys):
    for chapter in ("notes", "canvas", "cheater", "elsewhere"):
        begin_chapter(chapter)
        simple(f"{chapter}-holds", interval=(0, 1.5), n=3)
    simple("elsewhere-fails", value=3)
    assert main([]) == 0
    written = json.loads((book / "_book/claims.json").read_text())
    assert [entry["id"] for entry in written] == ["cheater-holds", "canvas-holds", "notes-holds"]
    assert written[0] == {
        "id": "cheater-holds",
        "chapter": "cheater",
        "statement": "It holds.",
        "value": 1,
        "op": "<",
        "threshold": 2,
        "interval": [0, 1.5],
        "n": 3,
        "holds": True,
        "scale": "full",
    }
    assert capsys.readouterr().out == "3 of 3 claims hold\n"
    assert main(["--strict"]) == 0


def test_main_names_each_failed_claim_and_strict_fails(book, capsys):
    begin_chapter("cheater")
    simple("good")
    simple("bad", value=0.5, threshold=0.2, interval=(0.4, 0.6))
    simple("undefined", value=math.nan)
    simple("unbounded", value=3, op=">", threshold=math.inf, interval=(1, math.inf))
    assert main(["--book", str(book / "_book")]) == 0
    assert capsys.readouterr().out == (
        "1 of 4 claims hold\n"
        "  failed: bad (cheater): measured 0.5 [0.4, 0.6], criterion < 0.2\n"
        "  failed: undefined (cheater): measured n/a, criterion < 2\n"
        "  failed: unbounded (cheater): measured 3 [1, ∞], criterion > ∞\n"
    )
    assert main(["--strict"]) == 1

    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    written = json.loads((book / "_book/claims.json").read_text(), parse_constant=refuse)
    assert [entry["value"] for entry in written] == [1, 0.5, None, 3]
    assert (written[3]["threshold"], written[3]["interval"]) == (None, [1, None])


def test_main_tells_the_opening_page_how_many_hold(book):
    begin_chapter("cheater")
    simple("good")
    simple("bad", value=3)
    opening = book / "_book/index.html"
    opening.write_text('<p>it counts<span id="claims-count">.</span> <span id="x">.</span></p>')
    told = '<p>it counts<span id="claims-count">: 1 of 2.</span> <span id="x">.</span></p>'
    for _ in range(2):
        assert main([]) == 0
        assert opening.read_text() == told


def test_the_summary_is_plain_text(book):
    begin_chapter("cheater")
    simple("good")
    assert claims.summary(claims.book_ledger()) == "1 of 1 claims hold."
    simple("bad", value=3)
    assert claims.summary(claims.book_ledger()) == "1 of 2 claims hold; not so: bad."


def test_strict_fails_without_claims(book, capsys):
    assert main([]) == 0
    assert main(["--strict"]) == 1
    assert "0 of 0 claims hold" in capsys.readouterr().out
    assert json.loads((book / "_book/claims.json").read_text()) == []


def test_main_without_a_book_or_a_project_says_so(place, capsys):
    assert main(["--book", "nowhere"]) == 2
    assert "no book in nowhere" in capsys.readouterr().err
    (place / "_book").mkdir()
    assert main([]) == 2
    assert "no _quarto.yml" in capsys.readouterr().err


def test_the_module_runs_and_does_not_import_torch(book):
    ran = subprocess.run(
        [sys.executable, "-m", "lazy_artist.claims"], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "0 of 0 claims hold\n"
    check = "import sys, lazy_artist.claims; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
