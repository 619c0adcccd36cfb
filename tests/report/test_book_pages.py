"""The pages of every built book: links, figures, text and requests."""

from pathlib import Path

import book_checks as checks
import pytest


def test_every_link_resolves(book: Path) -> None:
    assert checks.broken_links(book) == []


def test_every_image_has_alt_text_and_every_float_a_numbered_caption(book: Path) -> None:
    assert checks.faulty_figures(book) == []
    assert any(checks.floats(page) for page in checks.pages(book)), "a book without figures"


def test_no_id_occurs_twice_on_a_page(book: Path) -> None:
    assert checks.duplicate_ids(book) == []


def test_no_cell_failed(book: Path) -> None:
    assert checks.cell_errors(book) == []


def test_no_markdown_is_left_unrendered(book: Path) -> None:
    assert checks.unrendered_markdown(book) == []


def test_nothing_is_requested_from_the_network(book: Path) -> None:
    assert checks.remote_requests(book) == []


@pytest.mark.parametrize(
    ("ours", "quartos"),
    [
        ("sample_by_bookbinder", "sample_by_quarto"),
        ("project_book", "project_book_by_quarto"),
    ],
)
def test_both_builders_agree(ours: str, quartos: str, request: pytest.FixtureRequest) -> None:
    expected = request.getfixturevalue(quartos)
    found = request.getfixturevalue(ours)
    assert checks.page_names(found) == checks.page_names(expected)
    expected, found = checks.outline(expected), checks.outline(found)
    for name, page in expected.items():
        assert found[name] == page, name


def test_the_reports_claims_are_well_formed(project_book: Path) -> None:
    stems = {page.stem for page in checks.pages(project_book)}
    text = (project_book / "claims.json").read_text(encoding="utf-8")
    assert checks.faulty_claims(text, stems) == []
