"""The studies of a home: ``python -m autotune.studies [home=mlruns]``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig
from rich.console import Console
from rich.text import Text

from autotune.compose import run_command, setting
from autotune.errors import UserError, first_line
from autotune.kept.storage import StudyLock, folders
from autotune.settings import duration
from autotune.trial import State

# The names of the fields where stdout is no terminal, in their order.
FIELDS = (
    *("name", "begun", "written", "state", "trials", *(state.value.lower() for state in State)),
    *("metric", "best", "confirmed", "strategy", "bytes", "goes_on_by", "remark"),
)
STORES = ("study.journal", "study.db", "study.db-wal")


@dataclass(frozen=True, slots=True)
class Row:
    """A study in one line.

    Attributes:
        name: Its folder's.
        begun: When; None where that is not known.
        written: When it was last written to.
        state: ``searching``, ``finished``, ``resumable`` or ``broken``.
        states: How many trials are in each of Optuna's states.
        metric: What is searched for.
        best: The best value; None where there is none.
        confirmed: The winner's mean on other seeds; None where it is not confirmed.
        strategy: The winner's, in a few words; empty where nothing learnable was found.
        bytes: Size on disk.
        goes_on_by: The command that goes on with it; empty where there is nothing to go on with.
        remark: Why it is resumable or broken, and whether a finished one found nothing.
    """

    name: str
    begun: datetime | None
    written: datetime
    state: str
    states: Mapping[str, int] = field(default_factory=dict)
    metric: str = ""
    best: float | None = None
    confirmed: float | None = None
    strategy: str = ""
    bytes: int = 0
    goes_on_by: str = ""
    remark: str = ""


def main() -> None:
    """Run the command."""
    run_command("studies", _home, show)


def _home(config: DictConfig) -> Path:
    home = setting(config, "home")
    remedy = "give the home of your searches: home=mlruns"
    try:
        if isinstance(home, str) and Path(home).is_dir():
            return Path(home)
    except OSError as error:  # of a name that is too long too
        raise UserError("home", f"{home} cannot be read ({error.strerror})", remedy) from error
    raise UserError("home", f"{home} is no folder", remedy)


def show(config: DictConfig) -> int:
    """Print the studies of a home; returns the exit code."""
    home = _home(config)
    found = rows(home)
    console = Console(highlight=False)
    if not console.is_terminal:
        print("\t".join(FIELDS), *("\t".join(_fields(each)) for each in found), sep="\n")
        return 0
    if not found:
        console.print(f"no studies in {home}; search first: python -m autotune.search")
    for each in found:
        for line in _lines(each, max(len(other.name) for other in found)):
            console.print(line, soft_wrap=True)
    return 0


def rows(home: Path) -> list[Row]:
    """The studies of a home, the one written to last at the end."""
    return sorted((row(folder, home) for folder in folders(home)), key=lambda each: (each.written, each.name))


def row(folder: Path, home: Path) -> Row:
    """One study; whatever is wrong with its files, a row that says so."""
    try:
        return _row(folder, home)
    except Exception as error:  # a row, whatever a crash or a hand left in the folder
        written, size = _on_disk(folder)
        said = f"{type(error).__name__}: {first_line(error)}"
        if isinstance(error, UserError):
            said = error.problem
        elif isinstance(error, PermissionError):
            said = f"{error.filename} cannot be read ({error.strerror})"
        elif isinstance(error, FileNotFoundError):
            said = f"no {Path(error.filename).name}"
        return Row(folder.name, None, written, "broken", bytes=size, remark=said)


def _row(folder: Path, home: Path) -> Row:
    written, size = _on_disk(folder)
    is_held = StudyLock.is_held(folder)
    try:
        text = (folder / "config.yaml").read_text()
        known = None if is_held else _summary(folder)
        known = _read(folder.name, home) if known is None else known
    except (FileNotFoundError, UserError):
        if not is_held:
            raise
        return Row(folder.name, None, written, "searching", bytes=size, remark="no trial yet")
    config = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    remark = "" if is_held else _left(config, known)
    state = "searching" if is_held else "resumable" if remark else "finished"
    if state == "finished" and known.get("learnt") is False:
        remark = "nothing learnable was found"
    winner, confirmed = known.get("winner") or {}, known.get("confirmed") or {}
    return Row(
        folder.name,
        _begun(folder),
        written,
        state,
        known["states"],
        str(known["metric"]),
        known["best_value"],
        confirmed.get("mean"),
        str(winner.get("name", "")).partition(" ")[2],
        size,
        _command(text, folder.name) if state == "resumable" else "",
        remark,
    )


def _summary(folder: Path) -> dict[str, Any] | None:
    """summary.json, where it was written after all else: it then has what reading the whole study would tell."""
    path = folder / "summary.json"
    if not path.is_file():
        return None
    written = path.stat().st_mtime
    if any((folder / name).is_file() and (folder / name).stat().st_mtime > written for name in STORES):
        return None
    try:
        known = json.loads(path.read_text())
    except ValueError:
        return None
    return known if isinstance(known, dict) and {"states", "metric", "best_value"} <= known.keys() else None


def _read(name: str, home: Path) -> dict[str, Any]:
    """What the study itself tells, which takes longer: it is being searched, or its last search did not end well."""
    from autotune.kept.outcome import read
    from autotune.report.files import summary

    return summary(read(name, home))


def _left(config: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """What is left to do; empty where nothing is."""
    states, finished = known["states"], str(known.get("finished") or "")
    used = {"trials": sum(states.values()), "seconds": known["seconds"], "epochs": known["trained_epochs"]}
    limits = {**config["budget"], "seconds": None}
    with suppress(UserError):  # of an interpolation, which is not resolved here
        limits["seconds"] = duration("budget", config["budget"])
    used_up = [f"budget.{key}" for key in used if limits[key] is not None and used[key] >= limits[key]]
    left_over = states.get("RUNNING", 0) + states.get("WAITING", 0)
    if left_over:
        more = [key for key in used_up if key != "budget.trials"]  # which those left over count in already
        said = f"{left_over} trial{'s' * (left_over != 1)} left over"
        return f"{said}; give a larger {' and '.join(more)}" if more else said
    if not finished:
        return "its code raised" if known["reasons"].get("error") else "killed"
    if not used_up and finished.startswith("interrupted"):
        return finished
    if not used_up and finished.startswith("budget."):
        return "budget not used up"
    confirm = config.get("confirm") or {"top": 0, "seeds": 0}
    if confirm["top"] > 0 and confirm["seeds"] > 0 and known.get("winner") is not None:
        confirmed = known.get("confirmed") or {"seeds": 0}
        wanted = confirm["most_seeds"] if confirmed.get("tie") else confirm["seeds"]
        if confirmed["seeds"] < wanted:
            return "not confirmed"
    return ""


def _command(config: str, name: str) -> str:
    """The command that goes on, which a search writes at the top of its config.yaml."""
    head = config.partition("\n")[0]
    return head.removeprefix("# ") if head.startswith("# python ") else f"the same command with study.name={name}"


def _begun(folder: Path) -> datetime | None:
    """When the first line of its log was written; None where that is not known."""
    try:
        with (folder / "search.log").open() as file:
            return datetime.fromisoformat(file.readline()[:19])
    except (OSError, ValueError):
        return None


def _on_disk(folder: Path) -> tuple[datetime, int]:
    """When a folder's files were last written to, and their bytes."""
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()] or [folder.stat()]
    return datetime.fromtimestamp(max(stat.st_mtime for stat in stats)), sum(stat.st_size for stat in stats)


def _fields(row: Row) -> list[str]:
    counts = [row.states.get(state.value, 0) for state in State]
    return [
        "" if each is None else " ".join(str(each).split())
        for each in (
            *(
                row.name,
                row.begun and row.begun.isoformat(timespec="seconds"),
                row.written.isoformat(timespec="seconds"),
            ),
            *(row.state, sum(counts), *counts, row.metric, row.best, row.confirmed, row.strategy, row.bytes),
            *(row.goes_on_by, row.remark),
        )
    ]


def _lines(row: Row, width: int) -> Iterator[Text]:
    """A study for people: its name, padded, and state; below it what there is to say of it."""
    colour = {"searching": "cyan", "finished": "green", "resumable": "yellow", "broken": "red"}[row.state]
    head = Text.assemble((f"{row.name:<{width}}", "bold"), "  ", (f"{row.state:<9}", colour))
    yield head.append(f"  {row.written:%Y-%m-%d %H:%M}  {_size(row.bytes):>9}  {row.remark}")
    counts = [f"{row.states[state]} {state.value.lower()}" for state in State if row.states.get(state)]
    if counts:
        yield Text(f"    {', '.join(counts)}")
    if row.best is not None:
        value = f"{row.best:.6g}" if row.confirmed is None else f"{row.confirmed:.6g} confirmed"
        yield Text(f"    {row.metric} {value}  {row.strategy}")
    if row.goes_on_by:
        yield Text(f"    {row.goes_on_by}", style="dim")


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"


if __name__ == "__main__":
    main()
