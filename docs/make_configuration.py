"""Writes docs/configuration.md from conf/: python docs/make_configuration.py [--check]"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONF, TARGET = ROOT / "conf", ROOT / "docs" / "configuration.md"

# The order a newcomer meets them in, and what each group is for.
GROUPS = {
    "data": "What is learnt from.",
    "model": "What learns. Its input and output sizes come from the data.",
    "optimizer": "How weights follow the gradient: `sweep` is the default; anything of `torch.optim` by `_target_`.",
    "schedule": "A factor on the learning rate over the training.",
    "trainer": "How long and where; Lightning's Trainer.",
    "task": "Loss and metrics.",
    "objective": "What a trial is judged by.",
    "sampler": "What is tried next; Optuna's.",
    "pruner": "Which trials stop early; Optuna's.",
    "executor": "What trains.",
    "storage": "Where the study is kept.",
    "tracking": "Where it is mirrored.",
    "experiment": "Whole set-ups.",
}

HEAD = """\
# Configuration

Made from conf/ by `python docs/make_configuration.py`; a test compares. Each option is one small file with a comment at
each key; `group=option` on the command line chooses it, `group.key=value` changes a value, and any value may be a
search value. `python -m autotune.search --cfg job` shows what comes out.
"""


def comment(text: str) -> str:
    """The comment that a file begins with, as one line, without its example commands."""
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        said = line.removeprefix("#").strip()
        if said and not said.startswith(("@package", "python -m")):
            lines.append(said)
    return " ".join(lines)


def keys(text: str) -> Iterator[tuple[str, str, str]]:
    """Key, value and comment of each line of a file that has a value."""
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = re.fullmatch(r"(\s*)([\w.\"]+):\s*(.*?)(?:\s+#\s*(.*))?", line)
        if found is None or line.lstrip().startswith(("#", "-")):
            continue
        indent, key, value, said = len(found[1]), found[2].strip('"'), found[3], found[4] or ""
        parents = [(depth, name) for depth, name in parents if depth < indent]
        path = ".".join([*(name for _, name in parents), key])
        if value:
            yield path, value, said
        else:
            parents.append((indent, key))


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def option(group: str, file: Path) -> Iterator[str]:
    text = file.read_text()
    name = "" if group == "." else f"{group}={file.stem}"
    yield f"### `{name or file.name}`\n"
    yield f"{comment(text)}\n"
    space = CONF / group / "space" / file.name
    searched = {path: value for path, value, _ in keys(space.read_text())} if space.is_file() else {}
    rows = [
        row for row in keys(text) if row[0] not in ("name", "defaults") and not row[0].startswith(("hydra", "defaults"))
    ]
    if not rows:
        return
    yield (
        "| key | value | searched by default | |\n|---|---|---|---|" if searched else "| key | value | |\n|---|---|---|"
    )
    for path, value, said in rows:
        cells = [
            f"`{path}`",
            f"`{value}`",
            *([f"`{searched[path]}`" if path in searched else ""] if searched else []),
            said,
        ]
        yield f"| {' | '.join(map(cell, cells))} |"
    yield ""


def page() -> str:
    lines = [HEAD]
    unknown = {path.name for path in CONF.iterdir() if path.is_dir()} - set(GROUPS)
    if unknown:
        raise SystemExit(f"say in GROUPS what {', '.join(sorted(unknown))} is for")
    for group, what in GROUPS.items():
        files = sorted((CONF / group).glob("*.yaml"))
        lines.append(f"## {group}\n\n{what} Options: {', '.join(f'`{file.stem}`' for file in files)}.\n")
        for file in files:
            lines.extend(option(group, file))
    lines.append("## The commands\n")
    for name in ("search.yaml", "train.yaml", "studies.yaml", "sync.yaml"):
        lines.extend(option(".", CONF / name))
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    made = page()
    if not parser.parse_args().check:
        TARGET.write_text(made)
    elif TARGET.read_text() != made:
        sys.exit("docs/configuration.md is stale; run python docs/make_configuration.py")


if __name__ == "__main__":
    main()
