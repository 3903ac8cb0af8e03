from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .commands import environment, script, summary

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def blocks(page: str) -> list[tuple[str, str, str]]:
    """The code blocks of a page: language, title and text."""
    found = re.findall(
        r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', (DOCS / page).read_text(), re.MULTILINE | re.DOTALL
    )
    assert found
    return found


def test_the_reference_of_the_configuration_is_up_to_date() -> None:
    made = subprocess.run(
        [sys.executable, "docs/make_configuration.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert (made.returncode, made.stderr) == (0, "")


def test_the_reference_names_every_option() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    options = {
        f"{file.parent.name}={file.stem}" for file in (ROOT / "conf").glob("*/*.yaml") if file.parent.name != "space"
    }
    assert set(re.findall(r"^### `(\w+=\w+)`$", page, re.MULTILINE)) == options


def test_local_links_of_the_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name} links to {link}"


@pytest.mark.slow
def test_the_site_builds_and_its_links_and_anchors_lead_somewhere(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment(NO_MKDOCS_2_WARNING="1"),
    )
    assert (made.returncode, made.stderr) == (0, "")
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert {path.parent.name for path in (tmp_path / "site").glob("*/index.html")} == pages


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_the_python_of_the_reference_runs(tmp_path: Path, number: int) -> None:
    code = [text for language, _, text in blocks("python.md") if language == "python"][number]
    ended = script(code, cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert len(list((tmp_path / "mlruns" / "studies").iterdir())) == 1


@pytest.mark.slow
def test_a_project_as_it_is_is_searched_and_trained_as_the_page_says(tmp_path: Path) -> None:
    commands: dict[str, str] = {}
    yaml_lines = 0
    for language, title, text in blocks("your-own-model.md"):
        if language == "sh":
            commands[title] = text
        else:
            path = tmp_path / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            yaml_lines += len(text.splitlines()) if language == "yaml" else 0
    assert yaml_lines <= 20
    assert "autotune" not in (tmp_path / "my_project.py").read_text()
    for title in ("search", "train"):
        python, *arguments = shlex.split(commands[title])
        assert python == "python"
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, env=environment()
        )
        assert done.returncode == 0, done.stderr
    found = summary(tmp_path / "mlruns" / "studies" / "moons")
    assert (found["trials"], found["metric"], found["direction"]) == (12, "val_acc", "maximize")
    assert found["confirmed"]["mean"] > 0.7
    (trained,) = (tmp_path / "mlruns" / "trained").iterdir()
    assert summary(trained)["test"]["test_acc"] > 0.7
