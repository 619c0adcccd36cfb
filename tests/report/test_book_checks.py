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
    outline = [["h1 1 One"], {"fig-a": "Figure 1.1: A line."}, [("Figure 1.1", "index.html")]]
    assert checks.outline(book) == {"index.html": outline}


@pytest.mark.parametrize(("check", "body"), ALL)
def test_a_broken_page_is_found(check, body, make_book):
    (finding,) = check(make_book(body, SVG))
    assert finding.startswith("index.html: ")
