"""Each check finds fault with a page that deserves it, and none with a sound one."""

import book_checks as checks
import pytest

SOUND = """<main><h1>1 One</h1>
<p>See <a href="index.html#fig-a">Figure 1.1</a>, <a href="https://example.org">elsewhere</a>.</p>
<div id="fig-a"><figure><img src="a.svg" alt="A line."><figcaption>Figure 1.1: A line.</figcaption>
</figure></div><pre class="sourceCode">x ** 2  # ::: {python} @fig-a</pre></main>"""
SVG = {"a.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>"}
FAULTY = {
    checks.broken_links: (
        *('<a href="missing.html">m</a>', '<a href="index.html#nowhere">m</a>'),
        '<a href="../outside.html">m</a>',
    ),
    checks.faulty_figures: (
        *('<img src="a.svg" alt=" ">', '<div id="fig-a"><img src="a.svg" alt="a"></div>'),
        '<div id="tbl-a"><table><caption>Table 1.1: </caption></table></div>',
    ),
    checks.duplicate_ids: ('<p id="a"></p><p id="a"></p>',),
    checks.unrendered_markdown: (
        *("<p>see @fig-a</p>", "<p>see <strong>?sec-a</strong></p>", "<p>::: note</p>"),
        *("<p>**bold</p>", "<p><code>{python} x</code></p>", "<h2>Title {#sec-a}</h2>"),
        *("<p>[text](page.qmd)</p>", "<p>{{&lt; include x &gt;}}</p>", r"<p>the \sum_k w</p>"),
    ),
    checks.cell_errors: (
        '<div class="cell-output cell-output-error"></div>',
        "<pre><code>Traceback (most recent call last):</code></pre>",
    ),
    checks.private_words: (
        *("<p>the ink of a stroke</p>", "<h2>A dial</h2>", "<p>It is sure.</p>"),
        '<img src="a.svg" alt="The network\'s twin.">',
        *("<table><caption>By price</caption></table>", "<table><td>nought</td></table>"),
    ),
    checks.uncited_floats: (
        '<div id="fig-a"><figure><figcaption>Figure 1.1: A line.</figcaption></figure></div>',
        '<a href="#fig-b">b</a><div id="tbl-a"><table><caption>Table 1.1: A.</caption></table>',
    ),
    checks.remote_requests: (
        '<script src="https://example.org/x.js"></script>',
        '<img src="//example.org/x.png" alt="x">',
        '<p style="background: url(https://example.org/x.png)"></p>',
        "<style>@import 'https://example.org/x.css';</style>",
        '<script type="module">import "https://example.org/x"</script>',
    ),
}
ALL = [(check, body) for check, bodies in FAULTY.items() for body in bodies]


def test_a_sound_page_passes_and_has_an_outline(make_book):
    css = {"site.css": "a { background: url('data:image/svg+xml,http://www.w3.org/2000/svg') }"}
    book = make_book(SOUND, SVG | css)
    assert [check(book) for check in FAULTY] == [[]] * len(FAULTY)
    shown = dict.fromkeys([".claim", "table", "math", ".callout", ".term"], 0)
    shown |= {"img": 1, "widgets": []}
    outline = [["h1 1 One"], {"fig-a": "Figure 1.1: A line."}, [("Figure 1.1", "index.html")]]
    outline.append(shown)
    assert checks.outline(book) == {"index.html": outline}


@pytest.mark.parametrize(("check", "body"), ALL)
def test_a_broken_page_is_found(check, body, make_book):
    (finding,) = check(make_book(body, SVG))
    assert finding.startswith("index.html: ")


def test_a_chapters_parts_are_five_in_order(make_book):
    parts = [f"{'2.1 ' * (k > 0)}{part}" for k, part in enumerate(checks.PARTS)]
    for order, faulty in (
        *([(0, 1, 2, 3, 4), False], [(0, 2, 1, 3, 4), True], [(0, 1, 2, 3), True]),
        [(0, 1, 1, 2, 3, 4), True],
    ):
        page = make_book("".join(f"<h2>{parts[k]}</h2>" for k in order)) / "index.html"
        checks.parse.cache_clear()
        assert bool(checks.missing_parts(page)) is faulty


def test_words_of_prose_are_counted_without_what_is_no_prose():
    source = """---
title: no
---
# No {#sec-no}

```{python}
#| fig-cap: "no no"
no
```

One `{python} f"{no}"` two, three's *four* [five](no-file.html) (six @seven2020; $x$).

| no | no |
|----|----|

$$
no
$$ {#eq-no}

::: {.callout-tip title="Solution" collapse="true"}
```python
no
```
no
:::
"""
    assert "no" not in checks.prose(source).replace("no-file", "").split()
    assert checks.words(source) == 10  # the link's file is two, the key and x one each
