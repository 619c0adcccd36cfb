"""The pages of every built book: links, figures, text and requests."""

import book_checks as checks
import pytest

CHECKS = (
    *(checks.broken_links, checks.faulty_figures, checks.duplicate_ids, checks.cell_errors),
    *(checks.unrendered_markdown, checks.remote_requests),
)


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_is_found_fault_with(book, check):
    assert check(book) == []
    assert any(checks.floats(page) for page in checks.pages(book)), "a book without figures"


@pytest.mark.parametrize(
    ("ours", "quartos"),
    [("sample_by_bookbinder", "sample_by_quarto"), ("project_book", "project_book_by_quarto")],
)
def test_both_builders_agree(ours, quartos, request):
    expected = checks.outline(request.getfixturevalue(quartos))
    found = checks.outline(request.getfixturevalue(ours))
    assert found.keys() == expected.keys()
    for name, page in expected.items():
        assert found[name] == page, name


def test_the_reports_claims_are_well_formed(project_book):
    stems = {page.stem for page in checks.pages(project_book)}
    assert checks.faulty_claims((project_book / "claims.json").read_text("utf-8"), stems) == []
