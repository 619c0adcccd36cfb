"""Reading a book: what a chapter is cut into, and what is refused by file and line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookbinder import BookError
from bookbinder.source import (
    Chapter,
    Code,
    Prose,
    profile_environment,
    read_book,
    read_chapter,
)

DEFAULTS = {"echo": True, "warning": False, "code-fold": True, "code-summary": "Show the code"}


def chapter(text: str) -> Chapter:
    return read_chapter("report/x.qmd", text, 3, DEFAULTS)


def test_a_chapter_is_cut_into_prose_and_code_with_their_lines():
    read = chapter(
        "# X {#sec-x}\n"
        "\n"
        "There are `{python} 1 + 1` and `{python} f(2)`.\n"
        "```{python}\n"
        "#| label: fig-a\n"
        "#| fig-cap: >\n"
        "#|   Two\n"
        "#|   lines.\n"
        '#| fig-alt: "A: b"\n'
        "#| echo: false\n"
        "a = 1\n"
        "\n"
        "a\n"
        "```\n"
        "End.\n"
    )
    assert [(code.line, code.source, code.label) for code in read.code] == [
        (3, "1 + 1", ""),
        (3, "f(2)", ""),
        (4, "a = 1\n\na", "fig-a"),
    ]
    cell = read.code[2]
    assert cell.kind == "fig"
    assert cell.options["fig-cap"] == "Two lines.\n"
    assert cell.options["fig-alt"] == "A: b"
    assert cell.options["echo"] is False
    assert cell.options["code-summary"] == "Show the code"
    prose = [(piece.line, piece.text) for piece in read.pieces if isinstance(piece, Prose)]
    assert prose == [
        (1, "# X {#sec-x}\n\nThere are "),
        (3, " and "),
        (3, ".\n"),
        (15, "End.\n"),
    ]
    assert (read.number, read.page) == (3, "report/x.html")


def test_code_that_is_only_shown_is_never_run():
    text = "# X\n~~~~ markdown\n```{python}\n1\n```\n`{python} 2`\n{{< x >}}\n~~~~\n"
    read = chapter(text)
    assert read.code == []
    assert "".join(piece.text for piece in read.pieces) == text
    assert read.pieces[1].verbatim


def test_a_cell_inside_a_fenced_div_is_a_cell():
    read = chapter("# X\n::: {.claim}\n```{python}\n1\n```\n:::\n")
    assert [piece.source for piece in read.pieces if isinstance(piece, Code)] == ["1"]


def test_the_header_sets_title_order_and_defaults():
    read = chapter(
        "---\ntitle: A title\nbookbinder:\n  after: all\nexecute:\n  echo: false\n---\n\n"
        "```{python}\n1\n```\n"
    )
    assert (read.title, read.after_all, read.always) == ("A title", True, False)
    assert read.code[0].options["echo"] is False
    assert read.code[0].line == 9


@pytest.mark.parametrize("attributes", ["{.unnumbered}", "{#sec-x .unnumbered}"])
def test_an_unnumbered_title_takes_no_number(attributes):
    assert chapter(f"# X {attributes}\n").number is None


@given(
    st.text(
        st.characters(
            codec="utf-8", exclude_characters="#`~:{}<!\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
        )
    )
)
def test_plain_prose_is_kept_to_the_letter(text):
    read = chapter("# X\n" + text + "\n")
    assert "".join(piece.text for piece in read.pieces) == "# X\n" + text + "\n"


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("# X\n\n{{< include a.qmd >}}\n", 3, "shortcodes"),
        ("# X\n\n\n::: {.panel-tabset}\n:::\n", 4, "fenced div"),
        ("# X\n::: panel-tabset\n:::\n", 2, "fenced div"),
        ("# X\n::: {.column-margin}\n:::\n", 2, "fenced div"),
        ("# X\n::: {layout-ncol=2}\n:::\n", 2, "layouts"),
        ("# X\n::: {#fig-two}\n:::\n", 2, "labelled divs"),
        ("# X\n::: {.callout-danger}\n:::\n", 2, "unknown callout"),
        ('# X\n::: {.callout-note title="a b=c" icon=false}\n:::\n', 2, "only title and collapse"),
        ("# X\n![a](https://example.org/a.png)\n", 2, "remote"),
        ('# X\n<img alt="a" src="//example.org/a.png">\n', 2, "remote"),
        ("# X\n```{mermaid}\nA\n```\n", 2, "{mermaid}"),
        ("# X\n```{python echo=false}\nA\n```\n", 2, "#|"),
        ("# X\n```{{python}}\nA\n```\n", 2, "{{python}}"),
        ("# X\n- a\n\n  ```{python}\n  1\n  ```\n", 4, "column 1"),
        ("# X\n```{python}\n1\n", 2, "never ends"),
        ("# X\n```{python}\n#| echo: false\n#| fig-width: 3\n1\n```\n", 4, "'fig-width'"),
        ("# X\n```{python}\n#| echo: 3\n1\n```\n", 3, "true or false"),
        ("# X\n```{python}\n#| output: asis!\n1\n```\n", 3, '"asis"'),
        ("# X\n```{python}\n#| echo: [\n1\n```\n", 3, "YAML"),
        ("# X\n```{python}\n#| label: fig-a\n#| fig-cap: A\n1\n```\n", 2, "no fig-alt"),
        ("# X\n```{python}\n#| label: fig-a\n#| fig-alt: A\n1\n```\n", 2, "no fig-cap"),
        ("# X\n```{python}\n#| label: tbl-a\n1\n```\n", 2, "no tbl-cap"),
        ("# X\n```{python}\n#| label: two words\n1\n```\n", 2, "letters"),
        ("# X\n\nA `{python} a = 1` b\n", 3, "not an expression"),
        ("# X\n\n# Y\n", 3, "second title"),
        ("---\ntitle: X\n---\n# Y\n", 4, "second title"),
        ("Text\n", 1, "no title"),
        ("Text\n\n# X\n", 3, "before the title"),
        ("---\ntitle: X {#sec-x}\n---\n", 1, "attributes in title"),
        ("---\ntitle: X\nformat: pdf\n---\n", 3, "'format'"),
        ("---\ntitle: X\n", 1, "never ends"),
    ],
)
def test_what_is_not_supported_is_refused_by_file_and_line(text, line, part):
    with pytest.raises(BookError) as caught:
        chapter(text)
    assert str(caught.value).startswith(f"report/x.qmd:{line}: ")
    assert part in str(caught.value)
    assert ";" in str(caught.value)  # a remedy follows


@pytest.mark.parametrize(
    ("config", "line", "part"),
    [
        ("project:\n  type: website\n", 2, '"book"'),
        ("project:\n  type: book\n  preview: {}\n", 3, "'preview'"),
        ("book:\n  chapters: [index.qmd, index.md]\n", 1, "index.md"),
        ("book:\n  chapters: [index.qmd, gone.qmd]\n", 1, "gone.qmd does not exist"),
        ("book:\n  chapters: [other.qmd]\n", 1, "index.qmd"),
        ("book:\n  chapters: [index.qmd]\nbibliography: gone.bib\n", 1, "gone.bib"),
        ("execute:\n  freeze: auto\n", 2, "auto"),
        ("execute:\n  echo: true\n  echo: true\n", 3, "twice"),
        ("format:\n  pdf: {}\n", 2, "'pdf'"),
        ("- a\n", 1, "not a mapping"),
    ],
)
def test_an_unsupported_configuration_is_refused(project, config, line, part):
    root = project({"_quarto.yml": config, "other.qmd": "# Other\n"})
    with pytest.raises(BookError) as caught:
        read_book(root)
    assert str(caught.value).startswith(f"_quarto.yml:{line}: ")
    assert part in str(caught.value)


def test_a_folder_without_a_book_is_named(tmp_path):
    with pytest.raises(BookError, match=r"_quarto\.yml:1: no such file; .*--project"):
        read_book(tmp_path)


def test_numbers_skip_unnumbered_chapters(project):
    files = {"a.qmd": "# A\n", "b.qmd": "# B {.unnumbered}\n", "c.qmd": "# C\n"}
    assert [c.number for c in read_book(project(files)).chapters] == [None, 1, None, 2]


def test_a_label_twice_is_refused(project):
    files = {
        "a.qmd": "# A\n\n## One {#sec-one}\n",
        "b.qmd": "# B\n\n\n## Another {.x #sec-one}\n",
    }
    with pytest.raises(BookError, match=r"^b\.qmd:4: label sec-one is taken by a\.qmd:3"):
        read_book(project(files))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# A\n\nSee\n@fig-gone.\n", 4),
        ("# A\n```{python}\n#| label: tbl-a\n#| tbl-cap: As @eq-gone.\n1\n```\n", 2),
    ],
)
def test_a_reference_to_nothing_is_refused_before_anything_runs(project, text, line):
    with pytest.raises(BookError, match=rf"^a\.qmd:{line}: @(fig|eq)-gone names nothing"):
        read_book(project({"a.qmd": text}))


def test_what_looks_like_a_reference_in_code_is_none(project):
    text = "# A\n\nWrite `@fig-gone`, or mail me@fig-gone.\n\n```\n@tbl-gone\n```\n"
    assert len(read_book(project({"a.qmd": text})).chapters) == 2


def test_a_cell_may_print_what_is_referred_to(project):
    text = "# A\nSee @tbl-a.\n```{python}\nprint(': Caption {#tbl-a}')\n```\n"
    assert len(read_book(project({"a.qmd": text})).chapters) == 2


PROFILE = {
    "_quarto.yml": (
        "project:\n  type: book\n  output-dir: _book\n"
        "book:\n  title: T\n  subtitle: S\n  chapters: [index.qmd]\nbibliography: [a.bib]\n"
    ),
    "_quarto-other.yml": (
        "project:\n  output-dir: _book-other\nbook:\n  subtitle: O\n  chapters: [more.qmd]\n"
        "filters: [words.lua]\nmetadata-files: [words.yml]\n"
    ),
    "_environment-other": "# settings\nSOURCE=other-images\nKEPT=b\n\n",
    "more.qmd": "# More\n",
    "a.bib": "",
    "words.lua": "",
    "words.yml": "",
}


def test_a_profile_is_merged_into_the_book_as_quarto_does(project, monkeypatch):
    root = project(PROFILE)
    plain = read_book(root)
    assert (plain.output, plain.subtitle, plain.filters, plain.metadata) == ("_book", "S", (), ())
    monkeypatch.setenv("QUARTO_PROFILE", "other")
    book = read_book(root)
    assert (book.title, book.subtitle, book.output) == ("T", "O", "_book-other")
    assert [chapter.file for chapter in book.chapters] == ["index.qmd", "more.qmd"]
    assert (book.filters, book.metadata) == (("words.lua",), ("words.yml",))


def test_a_profile_sets_what_the_environment_does_not(project, monkeypatch):
    root = project(PROFILE)
    monkeypatch.setenv("KEPT", "a")
    monkeypatch.delenv("SOURCE", raising=False)
    assert profile_environment(root) == {}
    monkeypatch.setenv("QUARTO_PROFILE", "other")
    assert profile_environment(root) == {"SOURCE": "other-images"}
    (root / "_environment-other").write_text("SOURCE=a\nexport B\n")
    with pytest.raises(BookError, match=r"_environment-other:2: not a setting"):
        profile_environment(root)


def test_an_unknown_profile_or_a_missing_file_is_refused(project, monkeypatch):
    root = project(PROFILE)
    monkeypatch.setenv("QUARTO_PROFILE", "none")
    for read in (read_book, profile_environment):
        with pytest.raises(BookError, match=r"no such profile; QUARTO_PROFILE may name: other"):
            read(root)
    monkeypatch.setenv("QUARTO_PROFILE", "other")
    (root / "words.lua").unlink()
    with pytest.raises(BookError, match=r"filters words.lua does not exist"):
        read_book(root)
