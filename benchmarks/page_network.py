"""How long does a page take for its networks' first answers, and how long for a turn of the wheel?

    python benchmarks/run_all.py page_network.py [--turns N]

Measured in Chromium, on the playground's page opened as a file, with three untrained networks, that
cost what trained ones do. A turn of the wheel is all that a new colour asks for: painting, three
forward passes, heat maps, and the page. A backward pass is one step of an attack in the page.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from common import machine
from lazy_artist import playground
from lazy_artist.models import build
from lazy_artist.playground import Preset
from lazy_artist.standin import draw_digits

FIRST = """const waiting = setInterval(() => {
  if (!document.querySelector('.answer b')?.textContent) return;
  clearInterval(waiting);
  globalThis.firstAnswer = performance.now();
}, 1)"""
TURNS = """async n => {
  const slider = document.querySelector('.hue'), times = [];
  for (let i = 0; i < n; i++) {
    await new Promise(done => requestAnimationFrame(() => {
      const start = performance.now();
      slider.value = i % 10;
      const later = requestAnimationFrame; // the page's work at once, not in the next frame
      globalThis.requestAnimationFrame = action => { action(); return 0; };
      slider.dispatchEvent(new Event('input'));
      globalThis.requestAnimationFrame = later;
      document.body.offsetHeight; // with its layout
      times.push(performance.now() - start);
      done();
    }));
  }
  return times;
}"""
PASSES = """([n, what]) => {
  const {networks, background} = Widgets.data('networks'), slope = new Float32Array(10).fill(1);
  return Array.from({length: n}, () => {
    const start = performance.now();
    for (const network of what === 'forward' ? networks : networks.slice(0, 1)) {
      const run = Network.forward(network, background);
      if (what === 'backward') Network.backward(network, run, slope);
    }
    return performance.now() - start;
  });
}"""


def median(tab: Page, script: str, given: object) -> str:
    return f"{statistics.median(tab.evaluate(script, given)):5.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=50)
    n = parser.parse_args().turns
    print(machine())
    greys = draw_digits(10, 0)[0]
    networks = {name: build("cnn", k).eval() for k, name in enumerate(("one", "two", "three"))}
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page, background = Path(folder, "page.html"), np.zeros((3, 28, 28), np.float32)
        playground.write(
            page, networks, [Preset("one", "one", greys[1], 1, 0)], greys, background,
            title="Playground", intro="", back=("x.html", "Back"),
        )  # fmt: skip
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.add_init_script(FIRST)
        firsts = []
        for _ in range(5):
            tab.goto(page.as_uri())
            tab.wait_for_function("globalThis.firstAnswer")
            firsts.append(tab.evaluate("firstAnswer"))
        print(f"page and networks: {size / 1e6:.1f} MB")
        print(f"first answers after {statistics.median(firsts):.0f} ms (aim: at most 1,000)")
        print(f"a turn of the wheel: {median(tab, TURNS, n)} (aim: at most 60)")
        print(f"three forward passes: {median(tab, PASSES, [n, 'forward'])}")
        print(f"one forward and backward pass: {median(tab, PASSES, [n, 'backward'])}")
        browser.close()


if __name__ == "__main__":
    main()
