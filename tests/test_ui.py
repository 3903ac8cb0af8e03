"""The UI as a user sees it: ``python -m autotune.ui`` on the home of a search, read in Chromium."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest

from autotune import ui
from autotune.tracking import view

from .browsers import chromium
from .commands import run, start, trials
from .conftest import Searched
from .servers import free_port
from .tracking.stories import Runs

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

T = TypeVar("T")
Command = subprocess.Popen[str]
SECONDS = 40

# What the table of runs shows: a row for each run, its texts by the columns' headers.
TABLE = """
const names = {}, rows = [];
for (const head of document.querySelectorAll('.ag-header-cell')) names[head.getAttribute('col-id')] = head.innerText;
for (const row of document.querySelectorAll('.ag-row')) {
    const cells = rows[Number(row.getAttribute('row-index'))] ??= {};
    for (const cell of row.querySelectorAll('.ag-cell'))
        cells[names[cell.getAttribute('col-id')]] = cell.innerText.split('\\n').pop().trim();
}
return rows;
"""
# The first element of a selector that is shown and has a text in it.
FIND = """
const [selector, text] = arguments;
return [...document.querySelectorAll(selector)].find(each => each.checkVisibility() && each.innerText.includes(text));
"""
# What the charts of a page draw.
CHARTS = "return [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data ?? [])"


@pytest.fixture(scope="module")
def home(searched: Searched, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a search that nothing else looks at."""
    home = tmp_path_factory.mktemp("ui") / "mlruns"
    shutil.copytree(searched.cwd / "mlruns", home)
    return home


@pytest.fixture(scope="module")
def command(home: Path) -> Iterator[Command]:
    """The command while it runs; then Ctrl-C."""
    port = free_port()
    script = home.parent / "browser"
    script.write_text('#!/bin/sh\necho "$1" > opened\n')
    script.chmod(0o755)
    process = start("ui", f"port={port}", cwd=home.parent, DISPLAY=":0", BROWSER=f"{script} %s")
    try:
        yield process
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SECONDS)
        assert process.returncode == 0
        with pytest.raises(URLError):
            urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.fixture(scope="module")
def address(command: Command) -> str:
    """The page that the command opens, once it does."""
    assert command.stdout is not None
    said = next((line for line in command.stdout if line.startswith("the table of runs:")), "")
    assert said, f"{command.communicate()[1]}"
    shown_to_all = [word for each in psutil.Process(command.pid).children(recursive=True) for word in each.cmdline()]
    assert "mlflow" in shown_to_all
    assert not [word for word in shown_to_all if "mlflow.db" in word], "an address may have a password"
    return said.split()[-1]


def note(home: Path) -> str:
    """The description of the search in a home."""
    return Runs.at(home).parent.data.tags[view.NOTE]


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with chromium("window-size=2600,1600") as driver:
        yield driver


@dataclass(frozen=True)
class Browser:
    """A browser on the UI.

    Attributes:
        chrome: Selenium's driver.
        address: The page that the command opens.
    """

    chrome: Chrome
    address: str

    def open(self, page: str) -> None:
        """Open a page of the UI from scratch, as from a bookmark."""
        self.chrome.get("about:blank")
        self.chrome.get(f"{self.address.partition('#')[0]}{page}")

    def open_table(self, rows: int, view: str = view.VIEW) -> list[dict[str, str]]:
        """Open the page that the command opens; returns its table, once it has so many rows and their metrics."""
        self.open(f"#{self.address.partition('#')[2]}".replace("=autotune&", f"={view}&"))

        def read() -> list[dict[str, str]]:
            found: list[dict[str, str]] = self.chrome.execute_script(TABLE)
            return found if len(found) == rows and all(row and "objective" in row for row in found) else []

        return self.wait(read)

    def wait(self, what: Callable[[], T]) -> T:
        """Wait until there is something."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.chrome, SECONDS).until(lambda _: what())

    def find(self, selector: str, text: str = "") -> WebElement:
        """Wait for an element by its CSS selector and a text in it."""
        found = self.wait(lambda: self.chrome.execute_script(FIND, selector, text))
        assert found is not None
        return found

    def charts(self, kind: str) -> list[dict[str, Any]]:
        """Wait for charts of a kind; returns what they draw."""
        return self.wait(lambda: [drawn for drawn in self.chrome.execute_script(CHARTS) if drawn["type"] == kind])


@pytest.fixture
def browser(command: Command, chrome: Chrome, address: str) -> Browser:  # noqa: ARG001 - begun before the browser is
    return Browser(chrome, address)


@pytest.mark.slow
def test_the_table_opens_with_the_search_on_top_and_what_tells_its_trials_apart(
    browser: Browser, home: Path, searched: Searched
) -> None:
    expected = {trial["name"]: trial for trial in trials(searched.study)}
    search, *rows = browser.open_table(1 + len(expected))
    best = max(expected.values(), key=lambda trial: float(trial["objective"]))
    assert [search["Run Name"], search["study"]] == ["first", "first"]
    words = " ".join(note(home).split())  # in the cell the lines stand one behind the other
    assert words.startswith(" ".join(search["Description"].removesuffix("...").split())[:40])
    assert float(search["objective"]) == pytest.approx(float(best["objective"]))
    assert [search["family"], search["schedule"]] == [best["family"], best["schedule"]]
    assert sorted(row["Run Name"] for row in rows) == sorted(expected)
    for row in rows:
        trial = expected[row["Run Name"]]
        assert re.fullmatch(rf"t\d+ {row['family']} lr .+ {row['schedule']}", row["Run Name"])
        shown = ("family", "schedule", "state", "reason")
        assert [row[column] for column in shown] == [trial[column] for column in shown]
        assert float(row["objective"]) == pytest.approx(float(trial["objective"]))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sign"), [("autotune-highest", -1), ("autotune-lowest", 1)])
def test_a_view_lists_the_trials_by_their_objective(browser: Browser, searched: Searched, name: str, sign: int) -> None:
    expected = trials(searched.study)
    shown = [float(row["objective"]) for row in browser.open_table(len(expected), name)]
    assert shown == sorted(shown, key=lambda value: sign * value)


@pytest.mark.slow
def test_the_users_browser_is_opened_where_there_is_a_display(browser: Browser, home: Path) -> None:
    opened = home.parent / "opened"
    assert browser.wait(lambda: opened.exists() and opened.read_text()) == f"{browser.address}\n"


@pytest.mark.slow
def test_who_opens_the_experiment_some_other_way_is_one_click_from_the_table(browser: Browser, home: Path) -> None:
    browser.open(f"#/experiments/{Runs.at(home).parent.info.experiment_id}")
    assert browser.find("a", "All trials").get_attribute("href") == browser.address


@pytest.mark.slow
def test_the_page_of_a_search_shows_its_note(browser: Browser, home: Path) -> None:
    parent = Runs.at(home).parent.info
    browser.open(f"#/experiments/{parent.experiment_id}/runs/{parent.run_id}")
    browser.find("body", "About this run")
    first = note(home).splitlines()[2]  # behind the date and an empty line; of a long note the page shows the beginning
    words = set(re.findall(r"\w+", first))
    browser.wait(lambda: words <= set(re.findall(r"\w+", browser.find("body").text)))


@pytest.mark.slow
def test_the_charts_of_a_trial_count_epochs_from_one(browser: Browser, home: Path) -> None:
    runs = Runs.at(home)
    histories = {child.info.run_id: runs.history(child, "val/accuracy") for child in runs.children}
    longest = max(histories, key=lambda run_id: len(histories[run_id]))
    browser.open(f"#/experiments/{runs.parent.info.experiment_id}/runs/{longest}/model-metrics")
    browser.find("input[placeholder='Search metric charts']").send_keys("accuracy")
    values = [value for _, value in histories[longest]]
    curve = browser.wait(lambda: next((drawn for drawn in browser.charts("scatter") if drawn["y"] == values), None))
    assert curve is not None
    assert curve["x"] == [1, 2, 3]


@pytest.mark.slow
def test_trials_are_compared_by_parallel_coordinates(browser: Browser, searched: Searched) -> None:
    expected = trials(searched.study)
    browser.open_table(1 + len(expected))
    for box in browser.chrome.find_elements("css selector", ".ag-row .ag-checkbox-input")[1:]:
        browser.chrome.execute_script("arguments[0].click()", box)
    browser.find("[data-testid='runs-compare-button']").click()
    (drawn, *_) = browser.charts("parcoords")
    axes = {axis["label"]: axis["values"] for axis in drawn["dimensions"]}
    assert all(len(values) == len(expected) for values in axes.values())
    assert axes.keys() & {"optimizer", "schedule", "data.batch_size", "model.batch_norm"}


@pytest.mark.slow
def test_a_description_that_somebody_wrote_is_left(cwd: Path) -> None:
    client, before = Runs.at(cwd / "mlruns").client, Runs.at(cwd / "mlruns").parent.info.experiment_id
    client.set_experiment_tag(before, view.NOTE, "ours")
    view.share_view(client, client.get_experiment(before))
    tags = client.get_experiment(before).tags
    assert (tags[view.NOTE], view.VIEW_TAG in tags) == ("ours", True)


@pytest.mark.slow
def test_an_experiment_that_is_not_there(cwd: Path) -> None:
    ended = run("ui", "experiment=autotun", f"port={free_port()}", cwd=cwd)
    line = "experiment: there is no autotun in sqlite:///mlruns/mlflow.db; did you mean autotune?"
    assert (ended.code, ended.out, ended.err) == (2, "", f"error: {line}\n")


MISTAKES = {
    "misspelt key": ("hom=mlruns", "hom: there is no such key; did you mean home?"),
    "no key": ("mlruns", "command line: mlruns is not understood; write key=value"),
    "no value": ("home=", "home: has no value; give one: home=..."),
    "no number": ("port=http", "port: http is no port; give a whole number from 1 to 65535"),
    "no port": ("port=65536", "port: 65536 is no port; give a whole number from 1 to 65535"),
    "no home": (
        "home=elsewhere",
        "home: no search was mirrored there (sqlite:///elsewhere/mlflow.db is missing); give a search's: home=...",
    ),
}


@pytest.mark.parametrize(("typed", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_it_with_one_line(typed: str, line: str, tmp_path: Path) -> None:
    ended = run("ui", typed, cwd=tmp_path)
    assert (ended.code, ended.out, ended.err) == (2, "", f"error: {line}\n")
    assert not list(tmp_path.iterdir())


def test_a_server_has_a_ui_of_its_own(tmp_path: Path) -> None:
    ended = run("ui", cwd=tmp_path, MLFLOW_TRACKING_URI="http://us:secret@host:5000")
    line = "MLFLOW_TRACKING_URI: http://***@host:5000 is a server with a UI of its own; open it, or unset it"
    assert (ended.code, ended.err) == (2, f"error: {line}\n")


def test_a_taken_port(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ended = run("ui", f"port={port}", cwd=tmp_path)
    line = f"port: {port} cannot be used (Address already in use); give another: port=5001"
    assert (ended.code, ended.err) == (2, f"error: {line}\n")


def test_the_address_of_the_store_comes_by_the_environment() -> None:
    given = {"MLFLOW_BACKEND_STORE_URI": "sqlite:///other.db", "PYTHONWARNINGS": "error", "HOME": "/home/me"}
    started_with = ui._environment(given, "postgresql://me:hunter2@host/db")
    assert started_with["MLFLOW_BACKEND_STORE_URI"] == "postgresql://me:hunter2@host/db"
    assert (started_with["PYTHONWARNINGS"], started_with["HOME"]) == ("error", "/home/me")


def test_help_says_what_it_takes(tmp_path: Path) -> None:
    ended = run("ui", "--help", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert "python -m autotune.ui [home=mlruns] [experiment=autotune] [port=5000]" in ended.out
