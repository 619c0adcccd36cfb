"""What the report's chapters have in common, in their sources."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = yaml.safe_load((ROOT / "_quarto.yml").read_text())["book"]["chapters"]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in CHAPTERS}
NUMBERED = [n for n, t in TEXTS.items() if not re.search(r"^# .*\{.*\.unnumbered.*\}$", t, re.M)]
GLOSSARY = TEXTS["report/glossary.qmd"]
ENTRIES = re.findall(r"^\[([^]]+)\]\{#term-[\w-]+ \.term(?: also=\"(.+)\")?\}$", GLOSSARY, re.M)


@pytest.mark.parametrize("name", NUMBERED)
def test_a_chapter_says_once_and_before_its_sections_what_one_needs_to_know(name: str) -> None:
    opening, *sections = re.split(r"^## ", TEXTS[name], flags=re.M)
    assert len(re.findall(r"^\*\*What you need to know first\.\*\* \S", opening, re.M)) == 1
    assert "need to know first" not in "".join(sections)


def test_the_glossary_is_in_order_and_no_word_means_two_things() -> None:
    terms = [term for term, _ in ENTRIES]
    assert len(terms) > 20 and len(terms) == GLOSSARY.count(".term")
    assert terms == sorted(terms, key=str.lower)
    forms = [form.strip().lower() for term, also in ENTRIES for form in (term, *also.split(","))]
    forms = [form for form in forms if form]
    assert len(forms) == len(set(forms))


def test_every_term_of_the_glossary_is_used_by_a_chapter() -> None:
    prose = re.sub(r"^```.*?^```", "", "\n".join(TEXTS[n] for n in NUMBERED), flags=re.M | re.S)
    prose = " ".join(prose.split()).lower()
    for term, also in ENTRIES:
        forms = [re.escape(form.strip().lower()) for form in (term, *also.split(",")) if form]
        assert re.search(rf"\b({'|'.join(forms)})\b", prose), term


def test_every_work_cited_can_be_followed() -> None:
    works = (ROOT / "report" / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@\w+\{([^,]+),(.*?)^\}", works, re.M | re.S)
    linked = re.compile(r"^\s*(doi|url|eprint)\s*=\s*\{\S", re.M | re.I)
    assert len(entries) > 50
    assert [key for key, fields in entries if not linked.search(fields)] == []
