"""Reading a book: what a chapter is cut into, and what is refused by file and line."""

import pytest

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
    options = {"label": "fig-a", "fig-cap": "Two lines.\n", "fig-alt": "A: b", "echo": False}
    assert read.code[2].options == options
    prose = [(p.text, p.verbatim) for p in read.pieces if isinstance(p, Prose) and p.text]
    assert prose == [
        *(("# X {#sec-x}\n\nThere are ", False), (" and ", False), (".\n::: {.claim}\n", False)),
        *((":::\n", False), (shown, True), ("End.\n", False)),  # what is only shown is never run
    ]
    assert (read.number, read.page) == (3, "report/x.html")
    assert (read.turn, read.always) == (3, False)
    read = chapter("---\nbookbinder: {always: true}\n---\n# A {#sec-x .unnumbered}\n")
    assert (read.turn, read.always, read.number) == (0, True, None)


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("# X\n\n{{< include a.qmd >}}\n", 3, "shortcodes"),
        ("# X\n\n\n::: {.panel-tabset}\n:::\n", 4, "fenced div"),
        ("# X\n::: {layout-ncol=2}\n:::\n", 2, "layouts"),
        ("# X\n::: {#fig-two}\n:::\n", 2, "labelled divs"),
        ("# X\n::: {.callout-danger}\n:::\n", 2, "unknown callout"),
        ('# X\n::: {.callout-note title="a b=c" icon=false}\n:::\n', 2, "only title and collapse"),
        ("# X\n![a](https://example.org/a.png)\n", 2, "remote"),
        ("# X\n```{mermaid}\nA\n```\n", 2, "{mermaid}"),
        ("# X\n- a\n\n  ```{python}\n  1\n  ```\n", 4, "column 1"),
        ("# X\n```{python}\n1\n", 2, "never ends"),
        ("# X\n```{python}\n#| echo: false\n#| fig-width: 3\n1\n```\n", 4, "'fig-width'"),
        ("# X\n```{python}\n#| echo: [\n1\n```\n", 3, "YAML"),
        ("# X\n```{python}\n#| label: fig-a\n#| fig-cap: A\n1\n```\n", 2, "no fig-alt"),
        ("# X\n```{python}\n#| label: tbl-a\n1\n```\n", 2, "no tbl-cap"),
        ("# X\n\nA `{python} a = 1` b\n", 3, "not an expression"),
        ("# X\n\n# Y\n", 3, "one title"),
        ("Text\n", 1, "one title"),
        ("Text\n\n# X\n", 3, "before the title"),
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
        ("project:\n  type: book\n  preview: {}\n", 3, "'preview'"),
        ("book:\n  chapters:\n    - index.qmd\n    - index.md\n", 4, "index.md"),
        ("book:\n  chapters: [index.qmd, gone.qmd]\n", 1, "gone.qmd does not exist"),
        ("book:\n  chapters: [other.qmd]\n", 1, "index.qmd"),
        ("book:\n  chapters: [index.qmd]\n  appendices: [no.qmd]\n", 1, "no.qmd does not exist"),
        ("book:\n  chapters: [index.qmd]\n  appendices:\n    - a.md\n", 4, "a.md"),
        ("book:\n  chapters: [index.qmd]\nbibliography: gone.bib\n", 1, "gone.bib"),
        ("", 1, "no such file; name the book's folder with --project"),
    ],
)
def test_an_unsupported_configuration_is_refused(project, tmp_path, config, line, part):
    root = project({"_quarto.yml": config, "other.qmd": "# Other\n"})
    with pytest.raises(BookError) as caught:
        read_book(root if config else tmp_path)
    assert f"_quarto.yml:{line}: " in str(caught.value) and part in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("## One {#sec-one}\n", "\n\n## Another {.x #sec-one}\n", "b.qmd:4: .* stands twice"),
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


def test_settings_are_those_of_the_file_or_the_usual_ones_and_numbers_skip(project):
    root = project({"a.bib": "", "a.qmd": "# A\n", "b.qmd": "# B {.unnumbered}\n", "c.qmd": "# C\n",
        "d.qmd": "# D\n", "e.qmd": "# E {.unnumbered}\n", "f.qmd": "# F\n",
        "_quarto.yml": "lang: de\nbook:\n  subtitle: S\n  chapters: [index.qmd, a.qmd, b.qmd, "
        "c.qmd]\n  appendices: [d.qmd, e.qmd, f.qmd]\nexecute: {echo: false}\n"
        "format: {html: {toc-depth: 2}}\nbibliography: a.bib\n",
    })  # fmt: skip
    book = read_book(root)
    assert [chapter.number for chapter in book.chapters] == [None, 1, None, 2, "A", None, "B"]
    assert [chapter.appendix for chapter in book.chapters] == [False] * 4 + [True] * 3
    assert (book.lang, book.title, book.subtitle) == ("de", "Untitled", "S")
    assert (book.echo, book.warning, book.code_fold, book.toc_depth) == (False, True, False, 2)
    assert (book.bibliography, book.post_render, book.code_summary) == ("a.bib", "", "Code")


def test_chapters_from_other_editors_are_read_or_refused_with_file_and_line(project):
    root = project({"a.qmd": "# A\n\n`{python} 1`\n"})
    for file in ("_quarto.yml", "index.qmd", "a.qmd"):
        text = (root / file).read_text(encoding="utf-8").replace("\n", "\r\n")
        (root / file).write_bytes(text.encode("utf-8-sig"))
    book = read_book(root)
    assert book.chapters[1].text == "# A\n\n`{python} 1`\n" and len(book.chapters[1].code) == 1
    (root / "a.qmd").write_bytes("# A\n\nÄh\n".encode("latin-1"))
    with pytest.raises(BookError, match="^a.qmd:3: this is not UTF-8 text; save the file in UTF-8"):
        read_book(root)
