from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from autotune.kept.outcome import Outcome
from autotune.report.comparison import comparison
from autotune.report.findings import Findings
from autotune.report.page import page

from ..browsers import chromium
from . import made

HOSTILE = '<script>alert("x")</script>&"'


def score(params: Mapping[str, Any]) -> float:
    family = params["optimizer"]
    rate = math.log10(params[f"optimizer.{family}.lr"])
    return 0.9 - 0.03 * (rate + 1.5) ** 2 + 0.02 * params["model.batch_norm"]


def hostile(study: Outcome) -> Outcome:
    """The same with names that hold HTML."""
    records = [
        replace(
            record,
            name=HOSTILE,
            family=HOSTILE,
            error=HOSTILE,
            params={**record.params, HOSTILE: HOSTILE},
            config={**record.config, "optimizer": {"name": HOSTILE}},
        )
        for record in study.records
    ]
    return replace(study, name=HOSTILE, records=records)


class Links(HTMLParser):
    """What a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        self.anchors |= {value or "" for name, value in attrs if name == "id"}


def unpacked(html: str, name: str) -> str:
    found = re.search(rf'<script type="application/gzip" id="packed-{name}">([^<]*)</script>', html)
    assert found is not None
    return gzip.decompress(base64.b64decode(found[1])).decode()


@pytest.fixture(scope="module")
def html() -> str:
    return page(Findings.of(made.study(score, 40)))


def test_the_page_refers_to_nothing_outside_it(html: str) -> None:
    links = Links()
    links.feed(html)
    assert links.targets
    assert all(target.startswith("#") or target == "data:," for target in links.targets)
    assert {target[1:] for target in links.targets if target.startswith("#")} <= links.anchors
    assert not re.search(r"url\(|@import", html)


def test_the_answer_can_be_read_without_scripts(html: str) -> None:
    assert "<li>The best strategy is " in html
    assert html.index('id="answer"') < html.index('id="worth"') < html.index('id="plot-history"')
    assert "<noscript>" in html


def test_the_figures_and_plotly_are_in_the_page(html: str) -> None:
    drawn = json.loads(unpacked(html, "figures"))
    assert "curves" in drawn
    assert all(f'<div id="{key}"' in html for key in drawn)
    assert "plotly.js v" in unpacked(html, "plotly")[:200]


def test_names_are_no_markup() -> None:
    found = page(Findings.of(hostile(made.study(score, 20))))
    assert "<script>alert" not in found
    assert "&lt;script&gt;alert" in found
    assert "<script>alert" not in unpacked(found, "figures")


def test_a_study_without_trials_has_a_page() -> None:
    study = made.study(score, 1)
    found = page(Findings.of(replace(study, records=[], trials=[])))
    assert "There is no trial yet." in found
    assert "packed-plotly" not in found


@pytest.mark.slow
def test_a_thousand_trials_stay_small() -> None:
    study = made.study(score, 1000)
    assert len(page(Findings.of(study)).encode()) < 5_000_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(capabilities={"goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}) as driver:
        yield driver


def opened(browser: Any, path: Path, width: int, scheme: str) -> list[str]:
    """Open a page and wait until its figures are drawn; returns the addresses it asked for."""
    from selenium.webdriver.support.ui import WebDriverWait

    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get_log("performance")
    browser.get(path.as_uri())
    WebDriverWait(browser, 120).until(
        lambda chrome: chrome.execute_script("return document.documentElement.dataset.drawn")
    )
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_a_browser_draws_every_figure_and_asks_for_nothing(
    browser: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    study = made.study(score, 40)
    path = tmp_path / "report.html"
    for text in (page(Findings.of(hostile(study))), comparison([study, made.study(score, 12, name="other")])):
        path.write_text(text)
        asked = opened(browser, path, width, scheme)
        assert [url for url in asked if not url.startswith(("data:", path.as_uri(), "blob:"))] == []
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
        places = browser.execute_script("return [...document.querySelectorAll('.plot > div')].map((each) => each.id)")
        assert places
        for place in places:
            marks = "path.point, path.js-line, .bars path"
            drawn = f"return document.getElementById('{place}').querySelectorAll('{marks}').length"
            assert browser.execute_script(drawn) > 0, place
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        ink = browser.execute_script("return getComputedStyle(document.querySelector('.xtick text')).fill")
        assert (ink == "rgb(28, 33, 39)") == (scheme == "light")
