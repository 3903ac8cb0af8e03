from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


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
