"""Each check finds fault with a page that deserves it, and none with a sound one."""

import json
from collections.abc import Callable
from pathlib import Path

import book_checks as checks
import pytest

SOUND = """<main><h1>1 One</h1>
<p>See <a href="index.html#fig-a">Figure 1.1</a>, <a href="https://example.org">elsewhere</a>.</p>
<div id="fig-a"><figure><img src="a.svg" alt="A line."><figcaption>Figure 1.1: A line.</figcaption>
</figure></div><pre class="sourceCode">x ** 2  # ::: {python} @fig-a</pre></main>"""
SVG = {"a.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>"}
MakeBook = Callable[..., Path]

CHECKS = (
    checks.broken_links,
    checks.faulty_figures,
    checks.duplicate_ids,
    checks.unrendered_markdown,
    checks.cell_errors,
    checks.remote_requests,
)


@pytest.mark.parametrize("check", CHECKS)
def test_a_sound_page_passes(check: Callable[[Path], list[str]], make_book: MakeBook) -> None:
    css = {"site.css": "a { background: url('data:image/svg+xml,http://www.w3.org/2000/svg') }"}
    assert check(make_book(SOUND, files=SVG | css)) == []


@pytest.mark.parametrize(
    ("check", "body"),
    [
        (checks.broken_links, '<a href="missing.html">m</a>'),
        (checks.broken_links, '<a href="#nowhere">m</a>'),
        (checks.broken_links, '<a href="index.html#nowhere">m</a>'),
        (checks.broken_links, '<a href="../outside.html">m</a>'),
        (checks.broken_links, '<img src="missing.png" alt="m">'),
        (checks.faulty_figures, '<img src="a.svg">'),
        (checks.faulty_figures, '<img src="a.svg" alt=" ">'),
        (checks.faulty_figures, '<div id="fig-a"><img src="a.svg" alt="a"></div>'),
        (checks.faulty_figures, '<figure id="fig-a"><figcaption>A line.</figcaption></figure>'),
        (
            checks.faulty_figures,
            '<div id="tbl-a"><table><caption>Table 1.1: </caption></table></div>',
        ),
        (checks.duplicate_ids, '<p id="a"></p><p id="a"></p>'),
        (checks.unrendered_markdown, "<p>see @fig-a</p>"),
        (checks.unrendered_markdown, "<p>see ?@tbl-a</p>"),
        (checks.unrendered_markdown, "<p>see <strong>?sec-a</strong></p>"),
        (checks.unrendered_markdown, "<p>::: note</p>"),
        (checks.unrendered_markdown, "<p>so **bold**</p>"),
        (checks.unrendered_markdown, "<p><code>{python} x</code></p>"),
        (checks.unrendered_markdown, "<h2>Title {#sec-a}</h2>"),
        (checks.unrendered_markdown, "<p>[text](page.qmd)</p>"),
        (checks.unrendered_markdown, "<p>{{&lt; include x &gt;}}</p>"),
        (checks.unrendered_markdown, r"<p>the sum \sum_k w</p>"),
        (checks.unrendered_markdown, "<span class='math display'>$$ y^2 $$</span>"),
        (checks.cell_errors, '<div class="cell-output cell-output-error"></div>'),
        (checks.cell_errors, "<pre><code>Traceback (most recent call last):</code></pre>"),
        (checks.remote_requests, '<script src="https://example.org/x.js"></script>'),
        (checks.remote_requests, '<img src="//example.org/x.png" alt="x">'),
        (checks.remote_requests, '<iframe src="http://example.org"></iframe>'),
        (checks.remote_requests, '<p style="background: url(https://example.org/x.png)"></p>'),
        (checks.remote_requests, "<style>@import 'https://example.org/x.css';</style>"),
        (checks.remote_requests, '<script type="module">import "https://example.org/x"</script>'),
    ],
)
def test_a_broken_page_is_found(
    check: Callable[[Path], list[str]], body: str, make_book: MakeBook
) -> None:
    (finding,) = check(make_book(body, files=SVG))
    assert finding.startswith("index.html: ")


def test_remote_style_sheets_and_fonts_are_found(make_book: MakeBook) -> None:
    head = '<link rel="stylesheet" href="https://example.org/x.css">'
    css = "@font-face { src: url(https://example.org/x.woff) }"
    findings = checks.remote_requests(make_book("", head, {"site.css": css}))
    assert findings == [
        "index.html: <link href=https://example.org/x.css>",
        "site.css: url(https://example.org/x.woff",
    ]


def test_the_outline_has_numbers_captions_and_references(make_book: MakeBook) -> None:
    assert checks.outline(make_book(SOUND, files=SVG)) == {
        "index.html": {
            "headings": ["h1 1 One"],
            "floats": {"fig-a": "Figure 1.1: A line."},
            "references": [("Figure 1.1", "index.html")],
        }
    }


CLAIM = {
    "id": "a",
    "chapter": "one",
    "statement": "It is so.",
    "value": 0.1,
    "op": "<",
    "threshold": 0.2,
    "interval": [0.05, 0.15],
    "n": 3,
    "holds": True,
}


def test_sound_claims_pass() -> None:
    undefined = CLAIM | {"id": "b", "value": None, "interval": None, "n": None, "holds": False}
    assert checks.faulty_claims(json.dumps([CLAIM, undefined]), {"one"}) == []


@pytest.mark.parametrize(
    "change",
    [
        {"holds": False},
        {"holds": 1},
        {"value": "0.1"},
        {"value": None},
        {"value": True},
        {"op": "~"},
        {"threshold": None},
        {"interval": [0.15, 0.05]},
        {"interval": [0.05]},
        {"n": 0},
        {"statement": None},
        {"chapter": "two"},
    ],
)
def test_faulty_claims_are_found(change: dict[str, object]) -> None:
    (finding,) = checks.faulty_claims(json.dumps([CLAIM | change]), {"one"})
    assert finding.startswith("a: ")


def test_a_lacking_field_and_a_repeated_id_are_found() -> None:
    lacking = {key: value for key, value in CLAIM.items() if key != "threshold"}
    assert checks.faulty_claims(json.dumps([lacking]), {"one"}) == ["a: lacks threshold"]
    assert checks.faulty_claims(json.dumps([CLAIM, CLAIM]), {"one"}) == ["a: occurs 2 times"]
    assert checks.faulty_claims("[]", {"one"}) == ["claims.json is not a list of claims"]
