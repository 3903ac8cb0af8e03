"""Debian's Chromium, headless, for the tests that look at a page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

FLAGS = ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage")


def the_program(name: str) -> str:
    """Where a program is; the test fails where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is missing: apt-get install chromium chromium-driver, or make test", pytrace=False)
    return path


@contextmanager
def chromium(*flags: str, capabilities: Mapping[str, Any] | None = None) -> Iterator[Chrome]:
    """A browser, with further flags and capabilities; nothing is downloaded for it."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = the_program("chromium")
    for flag in (*FLAGS, *flags):
        options.add_argument(f"--{flag}")
    for name, value in (capabilities or {}).items():
        options.set_capability(name, value)
    driver = webdriver.Chrome(options, webdriver.ChromeService(the_program("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()
