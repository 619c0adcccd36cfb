"""Reading a book: what a chapter is cut into, and what is refused by file and line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookbinder import BookError
from bookbinder.source import Chapter, Prose, read_book, read_chapter

TABLE = "```{python}\n#| label: tbl-a\n#| tbl-cap: A table.\n1\n```\n"


def chapter(text: str) -> Chapter:
    return read_chapter("report/x.qmd", text, 3)


def test_a_chapter_is_cut_into_prose_and_code_with_their_lines():
    shown = "~~~~ markdown\n```{python}\n1\n```\n`{python} 2`\n{{< x >}}\n~~~~\n"
    read = chapter(
        "---\nbookbinder: {after: all}\n---\n# X {#sec-x}\n\n"
        "There are `{python} 1 + 1` and `{python} f(2)`.\n::: {.claim}\n"
        "```{python}\n#| label: fig-a\n#| fig-cap: >\n#|   Two\n#|   lines.\n"
        '#| fig-alt: "A: b"\n#| echo: false\na = 1\n\na\n```\n:::\n' + shown + "End."
    )
    assert [(code.line, code.source, code.label, code.kind) for code in read.code] == [
        (6, "1 + 1", "", ""),
        (6, "f(2)", "", ""),
        (8, "a = 1\n\na", "fig-a", "fig"),
    ]
    options = read.code[2].options
    assert options == {
        **{"label": "fig-a", "fig-cap": "Two lines.\n", "fig-alt": "A: b", "echo": False}
    }
    prose = [(p.text, p.verbatim) for p in read.pieces if isinstance(p, Prose) and p.text]
    assert prose == [
        ("# X {#sec-x}\n\nThere are ", False),
        (" and ", False),
        (".\n::: {.claim}\n", False),
        (":::\n", False),
        (shown, True),  # code that is only shown is never run
        ("End.\n", False),
    ]
    assert (read.number, read.page) == (3, "report/x.html")
    assert (read.after_all, read.always) == (True, False)
    read = chapter("---\nbookbinder: {always: true}\n---\n# A {#sec-x .unnumbered}\n")
    assert (read.after_all, read.always, read.number) == (False, True, None)


@given(st.text(st.characters(codec="utf-8", exclude_characters="#`~:{}<!")))
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
        ("# X\n```{python}\n#| echo: 3\n1\n```\n", 3, "boolean"),
        ("# X\n```{python}\n#| echo: [\n1\n```\n", 3, "YAML"),
        ("# X\n```{python}\n#| label: fig-a\n#| fig-cap: A\n1\n```\n", 2, "no fig-alt"),
        ("# X\n```{python}\n#| label: tbl-a\n1\n```\n", 2, "no tbl-cap"),
        ("# X\n```{python}\n#| label: two words\n1\n```\n", 3, "two words"),
        ("# X\n\nA `{python} a = 1` b\n", 3, "not an expression"),
        ("# X\n\n# Y\n", 3, "second title"),
        ("Text\n", 1, "no title"),
        ("Text\n\n# X\n", 3, "before the title"),
        ("---\ntitle: X\n---\n", 2, "'title'"),
        ("---\nbookbinder:\n  after: some\n---\n# X\n", 3, "'all'"),
        ("---\nbookbinder: {}\n", 1, "never ends"),
    ],
)
def test_what_is_not_supported_is_refused_by_file_and_line(text, line, part):
    with pytest.raises(BookError) as caught:
        chapter(text)
    assert str(caught.value).startswith(f"report/x.qmd:{line}: ")
    assert part in str(caught.value) and ";" in str(caught.value)  # a remedy follows


@pytest.mark.parametrize(
    ("config", "line", "part"),
    [
        ("project:\n  type: website\n", 2, "book"),
        ("project:\n  type: book\n  preview: {}\n", 3, "'preview'"),
        ("book:\n  chapters:\n    - index.qmd\n    - index.md\n", 4, "index.md"),
        ("book:\n  chapters: [index.qmd, gone.qmd]\n", 1, "gone.qmd does not exist"),
        ("book:\n  chapters: [other.qmd]\n", 1, "index.qmd"),
        ("book:\n  chapters: [index.qmd]\nbibliography: gone.bib\n", 1, "gone.bib"),
        ("- a\n", 1, "object"),
    ],
)
def test_an_unsupported_configuration_is_refused(project, config, line, part):
    root = project({"_quarto.yml": config, "other.qmd": "# Other\n"})
    with pytest.raises(BookError) as caught:
        read_book(root)
    assert str(caught.value).startswith(f"_quarto.yml:{line}: ") and part in str(caught.value)


def test_a_folder_without_a_book_is_named(tmp_path):
    with pytest.raises(BookError, match=r"_quarto\.yml:1: no such file; .*--project"):
        read_book(tmp_path)


def test_numbers_skip_unnumbered_chapters(project):
    files = {"a.qmd": "# A\n", "b.qmd": "# B {.unnumbered}\n", "c.qmd": "# C\n"}
    assert [c.number for c in read_book(project(files)).chapters] == [None, 1, None, 2]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("## One {#sec-one}\n", "\n\n## Another {.x #sec-one}\n", "b.qmd:4: .* stands twice"),
        (TABLE, TABLE, "b.qmd:3: label tbl-a stands twice"),
        (TABLE, "\n: Caption {#tbl-a}\n", "b.qmd:3: label tbl-a stands twice"),
        ("", "\nSee\n@fig-gone.\n", "b.qmd:4: @fig-gone names nothing"),
        ("", TABLE.replace("A table", "As @eq-gone"), "b.qmd:4: @eq-gone names nothing"),
        (TABLE, "@tbl-a\n", None),
        ("See @tbl-a.\n", "```{python}\nprint(': Caption {#tbl-a}')\n```\n", None),
        ("", "Write `@fig-gone`, or mail me@fig-gone.\n\n```\n@tbl-gone\n```\n", None),
    ],
)
def test_labels_stand_once_and_references_lead_somewhere(project, first, second, message):
    root = project({"a.qmd": f"# A\n{first}", "b.qmd": f"# B\n{second}"})
    if message:
        with pytest.raises(BookError, match=f"^{message}"):
            read_book(root)
    else:
        assert len(read_book(root).chapters) == 3


def test_settings_are_those_of_the_file_or_the_usual_ones(project):
    root = project({"a.bib": "", "_quarto.yml": (
        "project:\n  output-dir: out\nlang: de\nbook:\n  subtitle: S\n  chapters: [index.qmd]\n"
        "bibliography: a.bib\nexecute:\n  echo: false\nformat:\n  html:\n    toc-depth: 2\n"
    )})  # fmt: skip
    book = read_book(root)
    assert (book.lang, book.title, book.subtitle, book.output_dir) == ("de", "Untitled", "S", "out")
    assert (book.echo, book.warning, book.code_fold, book.toc_depth) == (False, True, False, 2)
    assert (book.bibliography, book.post_render, book.code_summary) == ("a.bib", "", "Code")
