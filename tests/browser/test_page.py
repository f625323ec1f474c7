"""The report in a browser: it loads alone, shows the numbers that Python computes, and runs no text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import chromium
import pytest
from pictured import IMAGE, SCRIPT, pictured

from rnnlm.analysis.predictions import Predictions, predictions
from rnnlm.analysis.stretch import Stretch, of_split
from rnnlm.pictures.colours import LEVELS, SCHEMES, sequential
from rnnlm.pictures.labels import label
from rnnlm.pictures.report import report
from rnnlm.runs.checkpoint import Checkpoint

PAINT, HOVER = 1.0, 0.05  # seconds, at most
SYMBOL = "[...document.querySelectorAll('#surprisal .text span')].find(s => s.at === arguments[0])"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One session for all tests."""
    pytest.importorskip("selenium", reason="no selenium: pip install 'rnnlm[browser]'")
    if not chromium.is_there():
        pytest.skip("no Chromium: apt-get install chromium chromium-driver")
    driver = chromium.session()
    driver.set_window_size(1200, 900)
    yield driver
    driver.quit()


Shown = tuple[Checkpoint, Stretch, Predictions]


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """The report of a run, opened; and what Python knows of it."""
    folder = tmp_path_factory.mktemp("page")
    run = pictured(folder)
    stretch = of_split(run, 250)
    path = folder / "report.html"
    path.write_bytes(report(run, stretch))
    browser.get(path.as_uri())
    browser.execute_async_script(chromium.READY)
    return run, stretch, predictions(run, stretch)


def known(stretch: Stretch) -> int:
    """A symbol that is a letter between letters."""
    return "".join(stretch.pieces).index("window")


def _fields(browser: Any) -> dict[str, str]:
    """What the panel beside the text says of the symbol that is chosen."""
    script = (
        "return Object.fromEntries([...document.querySelectorAll('#surprisal [data-field]')]"
        ".map(e => [e.dataset.field, e.textContent]))"
    )
    fields: dict[str, str] = browser.execute_script(script)
    return fields


def test_the_page_loads_alone(browser: Any, page: Shown) -> None:
    """From a file: nothing is logged, nothing else is asked for, nothing of the text is run."""
    assert browser.get_log("browser") == []
    asked = [entry["message"] for entry in browser.get_log("performance")]
    assert sum('Network.requestWillBeSent"' in message for message in asked) == 1
    assert browser.execute_script("return window.ran") is None
    shown = browser.execute_script("return document.querySelector('#surprisal .text').textContent")
    assert SCRIPT in shown
    assert IMAGE in shown
    assert browser.execute_script("return document.images.length") == 0


def test_the_pointer_and_the_keys_show_what_python_computes(browser: Any, page: Shown) -> None:
    """Bits, rank, entropy and the five most probable symbols; a hover takes less than 50 ms."""
    run, stretch, found = page
    at = known(stretch)
    names = [label(symbol) for symbol in run.vocabulary.to_json()["symbols"]]

    def check(at: int) -> None:
        fields = _fields(browser)
        assert abs(float(fields["bits"].split()[0]) - found.nats[at] / math.log(2)) < 0.006
        assert abs(float(fields["entropy"].split()[0]) - found.entropy[at] / math.log(2)) < 0.006
        assert fields["rank"] == str(found.rank[at])
        rows = browser.execute_script(
            "return [...document.querySelectorAll('#surprisal .bars li')]"
            ".map(li => [...li.children].map(c => c.textContent))"
        )
        assert [row[0] for row in rows] == [names[i] for i in found.top[at]]
        for row, p in zip(rows, found.p[at], strict=True):
            assert abs(float(row[2].split()[0]) - 100 * p) < 0.06

    hover = f"""const span = {SYMBOL};
        const began = performance.now();
        span.dispatchEvent(new PointerEvent('pointerover', {{bubbles: true}}));
        span.getBoundingClientRect();
        return (performance.now() - began) / 1000"""
    # The quickest of some, since the machine may be busy; the last one is at `at`
    assert min(browser.execute_script(hover, k) for k in range(at - 4, at + 1)) < HOVER
    check(at)
    box = browser.find_element("css selector", "#surprisal .text")
    box.send_keys("\ue014\ue014\ue012")  # right, right, left
    check(at + 1)


def test_colours_are_those_computed_in_light_dark_and_on_paper(browser: Any, page: Shown) -> None:
    """Of a known symbol, in each scheme; paper is light."""
    _, stretch, found = page
    at = known(stretch)
    bits = found.nats[at] / math.log(2)
    level = min(LEVELS - 1, int(bits / 8 * LEVELS))
    script = f"return getComputedStyle({SYMBOL}).backgroundColor"
    for scheme, media in ((SCHEMES[0], ""), (SCHEMES[1], ""), (SCHEMES[0], "print")):
        preferred = "dark" if media else scheme
        features = [{"name": "prefers-color-scheme", "value": preferred}]
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": media, "features": features}
        )
        colour = sequential(scheme)[level]
        rgb = ", ".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
        assert browser.execute_script(script, at) == f"rgb({rgb})"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_scripts_of_the_world_stand_as_they_are_written(browser: Any, page: Shown) -> None:
    """A line from right to left is one, a mark is with its base, and what has no shape has a sign."""
    script = """const lines = [...document.querySelectorAll('#surprisal .text > div')];
        const of = (text) => lines.find(line => line.textContent.includes(text));
        return [getComputedStyle(of('שלום')).direction, getComputedStyle(of('漢字')).direction,
            [...of('cafe').children].some(span => span.textContent === 'e\u0301'),
            of('␀') !== undefined, of('U+202E') !== undefined]"""
    assert browser.execute_script(script) == ["rtl", "ltr", True, True, True]


def test_on_a_narrow_screen_nothing_is_wider_than_it(browser: Any, page: Shown) -> None:
    """360 pixels; and the first paint comes soon."""
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    widths = "return [document.documentElement.scrollWidth, innerWidth]"
    assert browser.execute_script(widths) == [360, 360]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.refresh()  # the first time, the browser itself was starting
    # An observer, as the page may be ready before it was painted: then there is no entry to ask for
    paint = """const done = arguments[0], seconds = entries => done(entries[0].startTime / 1000);
        new PerformanceObserver(list => seconds(list.getEntries()))
            .observe({type: "paint", buffered: true})"""
    assert browser.execute_async_script(paint) < PAINT
