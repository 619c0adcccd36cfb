"""The claims: what holds, what is refused, what the ledger and claims.json say."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from lazy_artist import claims, data
from lazy_artist.claims import begin_chapter, claim, ledger_table, main
from lazy_artist.evaluate import Estimate

BOOK = """
book:
  chapters: [index.qmd, report/cheater.qmd, {part: The cure, chapters: [report/canvas.qmd]}]
  appendices: [report/notes.qmd]
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty cache, no chapter begun, and an empty current folder."""
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(claims, "_chapter", None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def book(place):
    (place / "_quarto.yml").write_text(BOOK)
    (place / "_book").mkdir()
    return place / "_book"


def simple(id="it-holds", **changes):
    """A claim that holds, unless `changes` say otherwise."""
    return claim(id, **{"statement": "It holds.", "value": 1, "op": "<", "threshold": 2} | changes)


def ledger(chapter="cheater"):
    return claims._read(chapter)


@pytest.mark.parametrize(
    ("op", "holds"), [("<", "100"), ("<=", "110"), (">", "001"), (">=", "011"), ("==", "010")]
)
def test_each_op_compares_value_with_threshold(op, holds):
    begin_chapter("cheater")
    for value, expected in zip((0, 0.5, 0.51, math.nan), f"{holds}0", strict=True):
        made = simple(value=value, op=op, threshold=0.5)
        assert made.holds == bool(int(expected))
        assert made.outcome == ("holds" if made.holds else "fails")


SMALL = Estimate(0.0412, (0.031, 0.0523), 3)
HOLDS, CROSSES, FAILS = (Estimate(m, (m - 0.1, m + 0.1), 3) for m in (0.7, 0.55, 0.45))


@pytest.mark.parametrize(
    ("value", "sealed", "outcome"),
    [
        (HOLDS, None, "holds"), (CROSSES, None, "undecided"), (FAILS, None, "fails"),
        (Estimate(0.55, None, 1), None, "holds"), (Estimate(0.6, (0.5, 0.7), 3), None, "holds"),
        (Estimate(0.6, (math.nan, 0.7), 3), None, "undecided"),
        (HOLDS, "closed", "holds"), (CROSSES, "closed", "undecided"), (HOLDS, 0.5, "holds"),
        (HOLDS, CROSSES, "undecided"), (HOLDS, FAILS, "fails"), (CROSSES, FAILS, "fails"),
        (CROSSES, HOLDS, "undecided"), (FAILS, HOLDS, "fails"), (FAILS, CROSSES, "fails"),
        (0.9, math.nan, "fails"), (math.nan, 0.9, "fails"),
    ],
)  # fmt: skip
def test_the_mean_the_interval_and_the_sealed_digits_decide(value, sealed, outcome):
    begin_chapter("cheater")
    made = simple(value=value, op=">=", threshold=0.5, sealed=sealed)
    assert (made.outcome, made.holds) == (outcome, outcome == "holds")


def test_a_criterion_from_above_binds_the_upper_end():
    begin_chapter("cheater")
    for threshold, outcome in ((0.81, "holds"), (0.79, "undecided"), (0.7, "fails")):
        assert simple(value=HOLDS, op="<", threshold=threshold).outcome == outcome


def test_a_claim_keeps_what_it_was_given_in_plain_types(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    begin_chapter("cheater")
    value = Estimate(np.float64(0.25), (np.float32(0.125), 0.5), np.int64(3))
    sealed = Estimate(np.float32(0.5), (0.25, 1.5), 2)
    made = claim("cheater-hard", "It\n  collapses.", value, "<", np.int64(1), sealed)
    told = {"value": 0.5, "interval": [0.25, 1.5], "n": 2, "outcome": "undecided"}
    plain = 0.25, "<", 1, [0.125, 0.5], 3, False, "quick", "undecided", told
    assert made == claims.Claim("cheater-hard", "cheater", "It collapses.", *plain)
    kinds = [type(x) for x in (made.value, made.threshold, made.interval[0], made.n)]
    assert kinds == [float, int, float, int]
    assert ledger() == [made]


TOLD = r"measured 0.041 \[0.031, 0.052\], 3 seeds; criterion \< 0.2, with the whole interval"
LINES = [
    ((0.04, "<", 0.2), r"✓ holds (measured 0.04; criterion \< 0.2)"),
    ((SMALL, "<", 0.2), f"✓ holds ({TOLD})"),
    ((SMALL, "<", 0.2, "closed"), f"✓ holds ({TOLD}; sealed digits closed)"),
    ((SMALL, "<", 0.2, 0.3), f"✗ fails ({TOLD}; sealed digits 0.3: fails)"),
    ((SMALL,), r"• measured (0.041 \[0.031, 0.052\], 3 seeds)"),
    # a narrow failure is not rounded to its threshold, nor an end, nor a threshold to three digits
    ((0.94996, ">=", 0.95), "✗ fails (measured 0.94996; criterion ≥ 0.95)"),
    ((Estimate(0.96, (0.94996, 1), 2), ">", 0.95), r"± undecided (measured 0.96 \[0.94996, 1\], 2 "
     r"seeds; criterion \> 0.95, with the whole interval)"),
    ((0.98, ">=", 0.9995), "✗ fails (measured 0.98; criterion ≥ 0.9995)"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "shown"), LINES)
def test_the_shown_line_is_a_fenced_div_that_does_not_rely_on_colour(given, shown):
    begin_chapter("cheater")
    outcome, told = shown.split(" (", 1)
    line = f"**{outcome}** `x`: It is so. ({told}"
    div = f"::: {{.claim .claim-{outcome.split()[1]}}}\n{line}\n:::\n"
    assert claim("x", "It is so.", *given)._repr_markdown_() == div


NUMBERS = {
    0.0412: "0.041", 0.00412: "0.0041", 3.2e-6: "3.2e-06", 0.95: "0.95", -0.5: "-0.5",
    0.9996: "1.000",  # not "1": something was rounded away
    12.345: "12.3", 55000: "55,000", 41.0: "41", 0: "0", 1e20: "1.0e+20",
    math.nan: "n/a", -math.inf: "-∞",
}  # fmt: skip


def test_numbers_are_short():
    assert [claims._number(value) for value in NUMBERS] == list(NUMBERS.values())


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"op": "!="}, ValueError, "'!='.*<, <=, >, >=, =="),
        ({"id": "Bad_Id"}, ValueError, "Bad_Id.*lowercase"),
        ({"value": np.zeros(2)}, TypeError, "value must be a number"),
        ({"threshold": None}, TypeError, "threshold must be a number"),
        ({"op": None}, ValueError, "unknown op None"),
        ({"value": Estimate(1, (1, "2"), 3)}, TypeError, "value's interval must be a number"),
        ({"value": Estimate(1, None, True)}, TypeError, "value's n must be a number, not True"),
        ({"sealed": "open"}, TypeError, "sealed must be a number, not 'open'"),
    ],
)
def test_bad_input_is_refused_by_name_and_leaves_no_record(changes, error, words):
    with pytest.raises(RuntimeError, match=r"begin_chapter\(name\)"):
        simple()
    for name in ("Cheater", "a/b", "", "a--b"):
        with pytest.raises(ValueError, match="lowercase"):
            begin_chapter(name)
    begin_chapter("cheater")
    with pytest.raises(error, match=words):
        simple(**changes)
    assert ledger() == []


def test_claims_keep_their_order_until_their_chapter_begins_anew():
    for chapter, ids in (("canvas", "kb"), ("cheater", "zam")):
        begin_chapter(chapter)
        for id in ids:
            simple(id)
    simple("a", value=5)  # its cell is run again
    assert [(made.id, made.value) for made in ledger()] == [("z", 1), ("a", 5), ("m", 1)]
    begin_chapter("cheater")
    assert ledger() == [] and [made.id for made in ledger("canvas")] == ["k", "b"]


def test_a_duplicate_is_refused_in_the_chapter_or_by_the_ledger_of_the_book(book):
    begin_chapter("canvas")
    simple("same")
    with pytest.raises(ValueError, match="'same' is made twice in chapter 'canvas'"):
        simple("same", statement="Something else.")
    begin_chapter("cheater")
    made = simple("same")
    with pytest.raises(ValueError, match="'same' of chapter 'canvas'.*in chapter 'cheater'"):
        claims.book_ledger()
    begin_chapter("canvas")  # it has moved
    assert claims.book_ledger() == [made]


def test_a_damaged_record_is_named():
    begin_chapter("cheater")
    simple()
    claims._path("cheater").write_text('{"id": ')
    with pytest.raises(ValueError, match=r"cheater\.json are damaged: delete the file"):
        ledger()


def test_the_table_holds_markdown_texts():
    begin_chapter("cheater")
    value = Estimate(0.0412, (0, 1), 3)
    simple("a", statement=r"Between | and \|.", value=value, threshold=0.2, sealed=0.1)
    simple("b", value=3, op="==", threshold=2, sealed="closed")
    simple("c", value=value, op=None, threshold=None)
    assert list(ledger_table([])) == ["Outcome", "Claim", "Measured", "Criterion", "Sealed"]
    said, measured = r"`a` (cheater): Between \| and \|.", r"0.041 \[0, 1\], 3 seeds"
    assert ledger_table(ledger()).values.tolist() == [
        ["±\u00a0undecided", said, measured, r"\< 0.2", "0.1: holds"],
        ["✗\u00a0fails", "`b` (cheater): It holds.", "3", "= 2", "closed"],
        ["•\u00a0measured", "`c` (cheater): It holds.", measured, "–", "–"],
    ]


def test_main_writes_the_claims_of_the_book_in_its_order(book, capsys):
    for chapter in ("notes", "canvas", "cheater", "elsewhere"):
        begin_chapter(chapter)
        simple(f"{chapter}-holds", value=Estimate(1, (0, 1.5), 3), sealed=Estimate(1, (0, 1), 3))
    simple("elsewhere-fails", value=3)
    assert main(["--strict"]) == 0
    assert capsys.readouterr().out == "3 of 3 claims hold\n"
    data.ask_again()
    data.note("digits", "USING drawn ones")  # by one of the build's kernels
    data.note("a host", "does not answer")
    assert main([]) == 0 and capsys.readouterr().out == "3 of 3 claims hold\nUSING drawn ones\n"
    data.ask_again()
    written = json.loads((book / "claims.json").read_text())
    assert [entry["id"] for entry in written] == ["cheater-holds", "canvas-holds", "notes-holds"]
    made = claims.book_ledger()[0]
    assert written[0] == vars(made) and (made.interval, made.sealed["n"]) == ([0, 1.5], 3)


def test_the_undecided_are_named_and_neither_they_nor_measurements_fail_a_strict_build(
    book, capsys
):
    begin_chapter("cheater")
    simple("told", op=None, threshold=None)
    assert main(["--strict"]) == 1 and capsys.readouterr().out == "0 of 0 claims hold\n"
    simple("nearly", value=Estimate(1, (0.5, 2.5), 3), sealed="closed")
    assert main(["--strict"]) == 0
    assert capsys.readouterr().out == (
        "0 of 1 claims hold; 1 undecided\n  undecided: nearly (cheater): measured 1 [0.5, 2.5], "
        "3 seeds; criterion < 2, with the whole interval; sealed digits closed\n"
    )
    simple("bad", sealed=3)
    assert main(["--strict"]) == 1
    count, failed, undecided = capsys.readouterr().out.splitlines()
    assert count == "0 of 2 claims hold; 1 undecided, 1 fails" and "undecided: nearly" in undecided
    assert failed == "  fails: bad (cheater): measured 1; criterion < 2; sealed digits 3: fails"


def test_main_names_each_failed_claim_also_on_the_opening_page_and_strict_fails(book, capsys):
    begin_chapter("cheater")
    simple("good")
    simple("bad", value=Estimate(0.5, (0.4, 0.6), None), threshold=0.2)
    simple("undefined", value=math.nan)
    simple("unbounded", value=Estimate(3, (1, math.inf), None), op=">", threshold=math.inf)
    bound = [f"criterion {text}, with the whole interval" for text in ("< 0.2", "> ∞")]
    opening = book / "index.html"
    opening.write_text('<p>count: <span id="claims-count">it</span> <span id="x">.</span></p>')
    for _ in range(2):
        assert main(["--book", str(book)]) == 0
        assert capsys.readouterr().out == (
            "1 of 4 claims hold; 3 fail\n"
            f"  fails: bad (cheater): measured 0.5 [0.4, 0.6]; {bound[0]}\n"
            "  fails: undefined (cheater): measured n/a; criterion < 2\n"
            f"  fails: unbounded (cheater): measured 3 [1, ∞]; {bound[1]}\n"
        )
        told = '<span id="claims-count">1 of 4 claims hold; 3 fail</span> <span id="x">.</span></p>'
        assert opening.read_text() == "<p>count: " + told
    assert main(["--strict"]) == 1
    written = json.loads((book / "claims.json").read_text(), parse_constant=pytest.fail)
    assert [entry["value"] for entry in written] == [1, 0.5, None, 3]
    assert (written[3]["threshold"], written[3]["interval"]) == (None, [1, None])


def test_a_text_quotes_claims_and_main_quotes_them_anew(book):
    begin_chapter("cheater")
    simple("one", value=0.1234)
    form, quote = "{one:.1%} {one:points} {two:.2f} {one:outcome}", claims.quoted
    text = quote(form, claims.book_ledger())
    told = ["12.3%", "12", "–", "✓\u00a0holds"]
    assert re.findall(r"\[(.*?)\]", text) == told
    assert text.startswith('[12.3%]{.quoted data-claim="one" data-form=".1%"} [12]{')
    span = '<span class="quoted" data-claim="{}" data-form="{}">{}</span>'
    forms = [("one", ".1%"), ("one", "points"), ("two", ".2f"), ("one", "outcome")]
    old = ["–"] * 4
    (book / "index.html").write_text("".join(map(span.format, *zip(*forms, strict=True), old)))
    assert main(["--book", str(book)]) == 0
    new = "".join(map(span.format, *zip(*forms, strict=True), told))
    assert (book / "index.html").read_text() == new


def test_main_without_claims_a_project_or_a_book_says_so(book, capsys):
    assert (main([]), main(["--strict"])) == (0, 1)
    assert json.loads((book / "claims.json").read_text()) == []
    (book.parent / "_quarto.yml").unlink()
    for arguments, told in (([], "no _quarto.yml"), (["--book", "nowhere"], "no book in nowhere")):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert told in capsys.readouterr().err


def test_the_module_runs_without_torch(book):
    code = "import sys, lazy_artist.claims as c; sys.exit(c.main([]) or 'torch' in sys.modules)"
    for command in (["-m", "lazy_artist.claims"], ["-c", code]):
        ran = subprocess.run([sys.executable, *command], capture_output=True, text=True)
        assert (ran.returncode, ran.stdout) == (0, "0 of 0 claims hold\n")
