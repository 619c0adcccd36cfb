"""The pages of every built book, of the published edition, and the sources of the report."""

import json
import math
import operator
import re
import warnings
from pathlib import Path

import book_checks as checks
import pytest
import yaml

from bookbinder import publish

OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
OPERATORS["=="] = operator.eq
ROOT = Path(__file__).resolve().parents[2]
CHECKS = (
    *(checks.broken_links, checks.faulty_figures, checks.duplicate_ids, checks.cell_errors),
    *(checks.unrendered_markdown, checks.remote_requests),
)


def test_nothing_is_found_fault_with(book):
    assert [finding for check in CHECKS for finding in check(book)] == []
    assert any(checks.floats(page) for page in checks.pages(book)), "a book without figures"


@pytest.mark.parametrize("name", ["sample", "report"])
def test_both_builders_agree(name, books):
    assert checks.outline(books(name)) == checks.outline(books(f"{name}-quarto"))


def test_the_reports_claims_are_well_formed(books):
    book = books("report")
    claims = json.loads((book / "claims.json").read_text("utf-8"))
    assert 0 < len(claims) == len({claim["id"] for claim in claims})
    for claim in claims:
        low, high = claim["interval"] or [claim["value"]] * 2
        assert (low is None or low <= high) and claim["n"] != 0 and claim["statement"], claim
        assert (claim["outcome"] == "measured") is (claim["op"] is None), claim
        if claim["op"]:  # the worst of both measurements, where there are two
            outcomes = []
            for made in [claim, claim["sealed"]] if isinstance(claim["sealed"], dict) else [claim]:
                numbers = (made["value"], *(made["interval"] or [made["value"]]))
                # a value may be NaN, which JSON carries as null: it never holds
                numbers = [math.nan if x is None else x for x in numbers]
                mean, *ends = (OPERATORS[claim["op"]](x, claim["threshold"]) for x in numbers)
                outcomes.append("fails" if not mean else "holds" if all(ends) else "undecided")
            assert claim["outcome"] == max(outcomes, key=["holds", "undecided", "fails"].index), (
                claim
            )
        assert claim["holds"] is (claim["outcome"] == "holds"), claim
        assert (book / "report" / f"{claim['chapter']}.html").is_file(), claim


def test_the_published_edition_is_whole():
    """That it lags behind the sources is a warning: it is refreshed in commits of its own."""
    docs = ROOT / "docs"
    if not docs.is_dir():
        pytest.skip("nothing is published yet: make publish")
    publish.check_size(docs)
    if told := publish.lag(ROOT, docs):
        warnings.warn(told, stacklevel=1)
    faults = (checks.broken_links, checks.remote_requests, checks.cell_errors)
    for check in (*faults, checks.unrendered_markdown, checks.faulty_figures):
        assert check(docs) == []


LISTED = yaml.safe_load((ROOT / "_quarto.yml").read_text())["book"]
CHAPTERS, APPENDICES = LISTED["chapters"], LISTED["appendices"]
TEXTS = {n: (ROOT / n).read_text(encoding="utf-8") for n in CHAPTERS + APPENDICES}
NUMBERED = [n for n, t in TEXTS.items() if not re.search(r"^# .*\{.*\.unnumbered.*\}$", t, re.M)]


@pytest.mark.parametrize("name", [name for name in NUMBERED if name in CHAPTERS])
def test_a_chapter_says_once_and_before_its_sections_what_one_needs_to_know(name):
    opening, *sections = re.split(r"^## ", TEXTS[name], flags=re.M)
    if sections[0].startswith("In short"):
        opening = sections.pop(0)
        assert opening.strip().split("\n\n")[-1].startswith("**What you need to know first.**")
    assert len(re.findall(r"^\*\*What you need to know first\.\*\* \S", opening, re.M)) == 1
    assert "need to know first" not in "".join(sections)


@pytest.mark.parametrize("chapter", checks.DONE)
def test_a_chapter_has_its_five_parts_and_is_not_too_long(chapter, books):
    assert checks.words(TEXTS[f"report/{chapter}.qmd"]) <= checks.LONGEST
    assert checks.missing_parts(books("report") / "report" / f"{chapter}.html") == []


def test_the_report_cites_every_figure_and_speaks_the_words_of_the_field(books):
    assert checks.uncited_floats(books("report")) + checks.private_words(books("report")) == []


def test_the_glossary_is_in_order_and_its_terms_are_used_and_mean_one_thing():
    glossary = TEXTS["report/glossary.qmd"]
    entry = r"^\[([^]]+)\]\{#term-[\w-]+ \.term(?: also=\"(.+)\")?\}$"
    found = re.findall(entry, glossary, re.M)
    terms = [term for term, _ in found]
    assert len(terms) > 20 and len(terms) == glossary.count(".term")
    assert terms == sorted(terms, key=str.lower)
    meant = {t: [f.strip().lower() for f in (t, *also.split(",")) if f] for t, also in found}
    forms = [form for each in meant.values() for form in each]
    assert len(forms) == len(set(forms))
    prose = re.sub(r"^```.*?^```", "", "\n".join(TEXTS[n] for n in NUMBERED), flags=re.M | re.S)
    prose = " ".join(prose.split()).lower()
    for term, forms in meant.items():
        assert re.search(rf"\b({'|'.join(map(re.escape, forms))})\b", prose), term


def test_every_work_cited_can_be_followed():
    works = (ROOT / "report" / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@\w+\{([^,]+),(.*?)^\}", works, re.M | re.S)
    linked = re.compile(r"^\s*(doi|url|eprint)\s*=\s*\{\S", re.M | re.I)
    assert len(entries) > 50
    assert [key for key, fields in entries if not linked.search(fields)] == []
