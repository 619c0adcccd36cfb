"""Each check finds fault with a page that deserves it, and none with a sound one."""

import json

import book_checks as checks
import pytest

SOUND = """<main><h1>1 One</h1>
<p>See <a href="index.html#fig-a">Figure 1.1</a>, <a href="https://example.org">elsewhere</a>.</p>
<div id="fig-a"><figure><img src="a.svg" alt="A line."><figcaption>Figure 1.1: A line.</figcaption>
</figure></div><pre class="sourceCode">x ** 2  # ::: {python} @fig-a</pre></main>"""
SVG = {"a.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>"}
FAULTY = {
    checks.broken_links: (
        '<a href="missing.html">m</a>',
        '<a href="#nowhere">m</a>',
        '<a href="index.html#nowhere">m</a>',
        '<a href="../outside.html">m</a>',
        '<img src="missing.png" alt="m">',
    ),
    checks.faulty_figures: (
        '<img src="a.svg" alt=" ">',
        '<div id="fig-a"><img src="a.svg" alt="a"></div>',
        '<figure id="fig-a"><figcaption>A line.</figcaption></figure>',
        '<div id="tbl-a"><table><caption>Table 1.1: </caption></table></div>',
    ),
    checks.duplicate_ids: ('<p id="a"></p><p id="a"></p>',),
    checks.unrendered_markdown: (
        "<p>see @fig-a</p>",
        "<p>see <strong>?sec-a</strong></p>",
        "<p>::: note</p>",
        "<p>so **bold**</p>",
        "<p><code>{python} x</code></p>",
        "<h2>Title {#sec-a}</h2>",
        "<p>[text](page.qmd)</p>",
        "<p>{{&lt; include x &gt;}}</p>",
        r"<p>the sum \sum_k w</p>",
        "<span class='math display'>$$ y^2 $$</span>",
    ),
    checks.cell_errors: (
        '<div class="cell-output cell-output-error"></div>',
        "<pre><code>Traceback (most recent call last):</code></pre>",
    ),
    checks.remote_requests: (
        '<script src="https://example.org/x.js"></script>',
        '<img src="//example.org/x.png" alt="x">',
        '<link rel="stylesheet" href="https://example.org/x.css">',
        '<p style="background: url(https://example.org/x.png)"></p>',
        "<style>@import 'https://example.org/x.css';</style>",
        '<script type="module">import "https://example.org/x"</script>',
    ),
}
ALL = [(check, body) for check, bodies in FAULTY.items() for body in bodies]


@pytest.mark.parametrize("check", FAULTY)
def test_a_sound_page_passes(check, make_book):
    css = {"site.css": "a { background: url('data:image/svg+xml,http://www.w3.org/2000/svg') }"}
    assert check(make_book(SOUND, files=SVG | css)) == []


@pytest.mark.parametrize(("check", "body"), ALL)
def test_a_broken_page_is_found(check, body, make_book):
    (finding,) = check(make_book(body, files=SVG))
    assert finding.startswith("index.html: ")


def test_a_remote_font_is_found_and_the_outline_has_numbers_captions_and_references(make_book):
    css = "@font-face { src: url(https://example.org/x.woff) }"
    book = make_book(SOUND, files=SVG | {"site.css": css})
    assert checks.remote_requests(book) == ["index.html: url(https://example.org/x.woff"]
    outline = {"headings": ["h1 1 One"], "floats": {"fig-a": "Figure 1.1: A line."}}
    outline["references"] = [("Figure 1.1", "index.html")]
    assert checks.outline(book) == {"index.html": outline}


CLAIM = {"id": "a", "chapter": "one", "statement": "It is so.", "value": 0.1, "op": "<"}
CLAIM |= {"threshold": 0.2, "interval": [0.05, 0.15], "n": 3, "holds": True}
UNDEFINED = {"id": "b", "value": None, "interval": None, "n": None, "holds": False}


@pytest.mark.parametrize(
    ("changes", "found"),
    [([{}, UNDEFINED], ""), ([{"holds": False}], "a: "), ([{"holds": 1}], "a: "),
     ([{"value": None}], "a: "), ([{"interval": [0.2, 0.1]}], "a: "), ([{"n": 0}], "a: "),
     ([{"chapter": "two"}], "a: "), ([{}, {}], "a: occurs 2 times"), ([], "claims.json is not")],
)  # fmt: skip
def test_faulty_claims_are_found(changes, found):
    told = checks.faulty_claims(json.dumps([CLAIM | change for change in changes]), {"one"})
    assert len(told) == bool(found) and all(line.startswith(found) for line in told)


def test_a_lacking_field_is_found():
    lacking = {key: value for key, value in CLAIM.items() if key != "threshold"}
    assert checks.faulty_claims(json.dumps([lacking]), {"one"}) == ["a: lacks threshold"]
