"""Configs of whoever means no good, or has slipped: each command, as typed, ends with one line and leaves nothing.

The usual slips are in tests/test_commands.py; hostile files that name what is to be made, in tests/trust.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ..commands import files, run

NAME = "use letters, digits, '.', '_' and '-', beginning with a letter or digit"
OWN_HOME = "give a folder of your own: home=..."
VALUES = "write choice(a,b), range(1,10,2), interval(0,1), int(interval(1,9)) or tag(log,interval(1e-4,1))"
QUOTE = "has a character that means nothing there; quote the value:"
DIGITS = "9" * 400
SHORT = f"{'9' * 60}...{'9' * 20}"
LIMIT = "give a whole number above 0, or null for none"
SEARCHED = "give the home of your searches: home=mlruns"
STUDY = "give a study that autotune.search wrote"
DEEP = f"{'[' * 40}{']' * 40}"

# What is typed behind a command, and the line that it ends with. {cwd} is where it is typed.
SEARCHES = {
    "unknown key": (
        "foo=1",
        "foo: there is no such key; known are allow_targets, budget, confirm, data, dry_run, executor, home, live, "
        "model, objective, optimizer, pruner, sampler, schedule, seed, storage, study, task, tracking, trainer",
    ),
    "no rate": ("optimizer.adam.lr=null", "optimizer.adam.lr: None is not right here; give a number above 0"),
    "NaN for a rate": ("optimizer.adam.lr=nan", "optimizer.adam.lr: nan is not right here; give a number above 0"),
    "infinite rate": ("optimizer.adam.lr=inf", "optimizer.adam.lr: inf is not right here; give a number above 0"),
    "empty rate": ("optimizer.adam.lr=", "optimizer.adam.lr: is not right here; give a number above 0"),
    "list for a rate": (
        "optimizer.adam.lr=[1,2]",
        "optimizer.adam.lr: [1, 2] is not right here; give a number above 0",
    ),
    "section for a rate": (
        "optimizer.adam.lr={a:1}",
        "optimizer.adam.lr: holds more than a value; give a number above 0",
    ),
    "rate of 400 digits": (
        f"optimizer.adam.lr={DIGITS}",
        f"optimizer.adam.lr: {SHORT} is not right here; give a number above 0",
    ),
    "number that Python does not read": (
        f"seed={'9' * 5000}",
        "seed: has a number of more than 1000 digits; give a smaller one",
    ),
    "a billion epochs": (
        "trainer.max_epochs=1000000000",
        "trainer.max_epochs: 1000000000 is not right here; give a whole number from 1 to 1000000",
    ),
    "half an epoch": (
        "trainer.max_epochs=2.5",
        "trainer.max_epochs: 2.5 is not right here; give a whole number from 1 to 1000000",
    ),
    "true for epochs": (
        "trainer.max_epochs=true",
        "trainer.max_epochs: True is not right here; give a whole number from 1 to 1000000",
    ),
    "no number of epochs": (
        "~trainer.max_epochs",
        "trainer.max_epochs: is missing; give it: ++trainer.max_epochs=...",
    ),
    "many devices": (
        "trainer.devices=99",
        "trainer.devices: 99 is not right here; give 1: a trial is trained on one device",
    ),
    "many machines": (
        "+trainer.num_nodes=5",
        "trainer.num_nodes: 5 is not right here; give 1: a trial is trained on one machine",
    ),
    "word for a callback": (
        "+trainer.callbacks=[early]",
        "trainer.callbacks: ['early'] is not right here; give a list of sections with a _target_",
    ),
    "negative clipping": (
        "trainer.gradient_clip_val=-1",
        "trainer.gradient_clip_val: -1 is not right here; give a number not below 0, or null",
    ),
    "word for a flag of Lightning": (
        "trainer.deterministic=maybe",
        "trainer.deterministic: maybe is not right here; give true, false or warn",
    ),
    "half a batch": (
        "data.batch_size=1.5",
        "data.batch_size: 1.5 is not right here; give a whole number above 0, or full",
    ),
    "budget beyond numbers": (f"budget.trials={DIGITS}", f"budget.trials: {SHORT} is no limit; {LIMIT}"),
    "fraction for a budget": ("budget.trials=1e99", f"budget.trials: 1e+99 is no limit; {LIMIT}"),
    "NaN seconds": (
        "budget.seconds=nan",
        "budget.seconds: nan is no limit; give a number above 0, one with its units (90s, 10m, 1h30m), or null "
        "for none",
    ),
    "negative epochs": ("budget.epochs=-1", f"budget.epochs: -1 is no limit; {LIMIT}"),
    "list for a section": (
        "budget=[1]",
        "budget: [1] does not fit there (Cannot merge DictConfig with ListConfig); "
        "give single values: budget.<name>=...",
    ),
    "a billion confirmations": (
        "confirm.seeds=1000000000",
        "confirm.seeds: 1000000000 is no number of them; give a whole number from 0 to 1000",
    ),
    "seed beyond 32 bits": (
        "study.seed=4294967296",
        "study.seed: 4294967296 is no seed; give a whole number from 0 to 4294967295",
    ),
    "some negative seeds": ("seed=range(-3,3)", "seed: -3 is not right here; give a whole number from 0 to 4294967295"),
    "slash in a name": ("study.name=a/b", f"study.name: a/b cannot name a folder; {NAME}"),
    "newline in a name": ("study.name='a\nb'", f"study.name: a b cannot name a folder; {NAME}"),
    "zero byte in a name": ("study.name='a\0b'", f"study.name: a\\x00b cannot name a folder; {NAME}"),
    "colour in a name": ("study.name='\x1b[31mred'", f"study.name: \\x1b[31mred cannot name a folder; {NAME}"),
    "other letters in a name": ("study.name=späße", f"study.name: study.name=späße {QUOTE} study.name=\"'...'\""),
    "half a character": ("study.name=\udcff", f"study.name: study.name=\\udcff {QUOTE} study.name=\"'...'\""),
    "list for a name": ("study.name=[a]", f"study.name: ['a'] cannot name a folder; {NAME}"),
    "home that root cannot make": (
        "home=/proc/autotune",
        f"home: /proc cannot be written to (No such file or directory); {OWN_HOME}",
    ),
    "zero byte in the home": ("home='a\0b'", f"home: a\\x00b is no path (embedded null byte); {OWN_HOME}"),
    "name too long in the home": (
        f"home={'a' * 290}",
        f"home: {'a' * 290} cannot be used (File name too long); {OWN_HOME}",
    ),
    "name too long below the home": (
        f"home=new/{'a' * 280}",
        f"home: new/{'a' * 280} has a name of more than 255 bytes; {OWN_HOME}",
    ),
    "Hydra's folder elsewhere": (
        "hydra.run.dir=/proc/autotune",
        "hydra.run.dir: /proc cannot be written to (No such file or directory); "
        "give a folder of your own: hydra.run.dir=...",
    ),
    "NaN for the worst": ("objective.worst=nan", "objective.worst: nan is no finite number; give a finite number"),
    "unknown metric, and no direction": (
        "objective.metric=val/luck",
        "objective.direction: which way val/luck is better is not known; give maximize or minimize",
    ),
    "text for starting points": (
        "study.enqueue=abc",
        "study.enqueue: abc is no list of points; write [{optimizer: adam, optimizer.adam.lr: 0.001}]",
    ),
    "unknown way to resume": ("study.resume=extnd", "study.resume: extnd is no way to resume; did you mean extend?"),
    "unknown way to be shown": ("live=maybe", "live: maybe is no way to show a search; give auto, true or false"),
    "maybe a dry run": ("dry_run=maybe", "dry_run: maybe is neither true nor false; give true or false"),
    "number for an address": (
        "tracking.uri=5",
        "tracking.uri: 5 is no address; give one as in sqlite:///mlflow.db or http://...",
    ),
    "word for a sampler's number": (
        "sampler.n_startup_trials=few",
        "sampler.n_startup_trials: few is not right here; give a whole number",
    ),
    "half an audit": ("pruner.audit=2", "pruner.audit: 2 is no part of a whole; give a number from 0 to 1"),
    "section for an option": (
        "sampler={a:1}",
        "sampler: no option {a:1}; known are cmaes, gp, grid, nsgaii, qmc, random, tpe",
    ),
    "pattern of nothing": (
        "sampler=glob(zzz*)",
        "sampler: glob(zzz*) is a choice; a search has one sampler; --multirun runs a search for each",
    ),
    "pattern of no option": (
        "experiment=glob(zzz*)",
        "experiment: glob(zzz*) matches no option; known are seed_mlp",
    ),
    "falling range": (
        "optimizer.adam.lr=range(5,1)",
        "optimizer.adam.lr: range(5,1) is empty; range(start,stop,step) stops before stop: write range(1,5,1)",
    ),
    "range without a step": (
        "optimizer.adam.lr=range(1,5,0)",
        "optimizer.adam.lr: range(1,5,0) has a step of 0; write a step above 0",
    ),
    "range in tiny steps": (
        "optimizer.adam.lr=range(0.1,1,1e-300)",
        "optimizer.adam.lr: range(0.1,1,1e-300) has more than 100000 steps; write a range without steps: interval(0,1)",
    ),
    "range to NaN": (
        "optimizer.adam.lr=range(1,nan)",
        "optimizer.adam.lr: range(1,nan) has the bound nan; bounds are finite numbers",
    ),
    "interval wider than numbers": (
        "optimizer.adam.lr=interval(-1e308,1e308)",
        "optimizer.adam.lr: interval(-1e308,1e308) is wider than any number; write closer bounds",
    ),
    "whole numbers beyond what floats tell apart": (
        "data.batch_size={type: int, low: 1, high: 9007199254740993}",
        "data.batch_size: {type: int, low: 1, high: 9007199254740993} has the bound 9007199254740993; "
        "whole bounds lie within 9007199254740992 of 0",
    ),
    "cast of a word": (
        "data.batch_size=int(abc)",
        f"data.batch_size: int(abc) is no value (invalid literal for int() with base 10: 'abc'); {VALUES}",
    ),
    "search value in a list": (
        "model.hidden=[interval(0,1)]",
        "model.hidden: [interval(0,1)] does not fit there (a search value inside it); "
        "quote that: model.hidden=['interval(0,1)',...]",
    ),
    "choice of nothing": (
        "optimizer.adam.lr={type: categorical, choices: []}",
        "optimizer.adam.lr: {type: categorical, choices: []} has nothing to choose from; "
        "write at least one value: choice(a,b)",
    ),
    "unknown kind of range": (
        "optimizer.adam.lr={type: flaot, low: 0, high: 1}",
        "optimizer.adam.lr.type: flaot is no type of search value; did you mean float?",
    ),
    "choice of 20,000": (
        f"data.batch_size=choice({','.join(map(str, range(20_000)))})",
        "data.batch_size: has 108913 characters; an override has at most 50000",
    ),
    "choice of 3,000": (
        f"data.batch_size=choice({','.join(map(str, range(3_000)))})",
        "data.batch_size: choice(0,1,2,3,4,5,6... has 13897 characters; a search value has at most 10000",
    ),
    "bottomless list": (f"model.hidden={DEEP}", "model.hidden: is nested more than 30 levels deep; write fewer levels"),
    "interpolation that does not end": (
        "seed='${foo'",
        "seed: '${foo' does not fit there (no viable alternative at input '${foo'); write ${key}",
    ),
    "interpolation of itself": (
        "seed='${seed}'",
        "seed: Recursive interpolation detected; point the interpolation at a key that exists",
    ),
    "nothing": (
        "",
        "command line: is not understood (mismatched input '<EOF>' expecting {EQUAL, '~', '+', '@', KEY_SPECIAL, "
        "DOT_PATH, ID}); write key=value",
    ),
    "unknown flag": ("--foo", "command line: unrecognized arguments: --foo; see --help"),
    "package as text": (
        "allow_targets=['a b']",
        "allow_targets: a b is no name of a package, module or class; "
        "give a list of names: allow_targets=[my_project,other.module.Class]",
    ),
}
OTHERS = {
    "train, nothing of that name": ("train", "from=zzz", "from: no study zzz in mlruns; known are broken"),
    "train, its folder": (
        "train",
        "from=mlruns/studies/x",
        "from: no study mlruns/studies/x in mlruns; known are broken",
    ),
    "train, a zero byte": (
        "train",
        "from='a\0.yaml'",
        "from: a\\x00.yaml is no path (embedded null byte); give a best.yaml",
    ),
    "train, a name too long": (
        "train",
        f"from={'a' * 290}",
        f"from: no study {'a' * 290} in mlruns; known are broken",
    ),
    "train, several": ("train", "from=[a,b]", "from: no study [a,b] in mlruns; known are broken"),
    "train, no such home": (
        "train",
        "home=/proc/autotune",
        f"home: /proc cannot be written to (No such file or directory); {OWN_HOME}",
    ),
    "train, a billion seeds": (
        "train",
        "train.seeds=10000000000",
        "train.seeds: 10000000000 is no number of seeds; give a whole number above 0",
    ),
    "train, maybe recipes": (
        "train",
        "train.recipes=maybe",
        "train.recipes: maybe is neither true nor false; give true, false or null",
    ),
    "train, number for an address": (
        "train",
        "tracking.uri=5",
        "tracking.uri: 5 is no address; give one as in sqlite:///mlflow.db or http://...",
    ),
    "report, nothing": ("report", "from=null", "from: no study is named; give a study: from=broken"),
    "report, nothing of that name": ("report", "from=zzz", "from: no study zzz in mlruns; known are broken"),
    "report, one twice": ("report", "from=[broken,broken]", "from: broken is named twice; name each study once"),
    "report, outside": (
        "report",
        "from=../studies/broken",
        "from: no study ../studies/broken in mlruns; known are broken",
    ),
    "report, a study that is rubbish": (
        "report",
        "from=broken",
        f"from: mlruns/studies/broken/config.yaml holds no config; {STUDY}",
    ),
    "report, misspelt key": ("report", "form=x", "form: there is no such key; did you mean from?"),
    "studies, no folder": (
        "studies",
        "home=nowhere",
        "home: nowhere is no folder; give the home of your searches: home=mlruns",
    ),
    "studies, a name too long": (
        "studies",
        f"home={'a' * 290}",
        f"home: {'a' * 290} cannot be read (File name too long); {SEARCHED}",
    ),
    "studies, a file": (
        "studies",
        "home=a_file",
        "home: a_file is no folder; give the home of your searches: home=mlruns",
    ),
    "studies, misspelt key": ("studies", "hom=3", "hom: there is no such key; did you mean home?"),
    "sync, nothing of that name": ("sync", "from=zzz", "from: no study zzz in mlruns; known are broken"),
    "sync, an empty home": (
        "sync",
        "home=elsewhere",
        "from: no study in elsewhere; search first: python -m autotune.search",
    ),
    "sync, a study that is rubbish": (
        "sync",
        "from=broken",
        f"from: mlruns/studies/broken/config.yaml holds no config; {STUDY}",
    ),
    "sync, a home below a file": ("sync", "home=a_file/x", "home: {cwd}/a_file is a file; give a folder: home=mlruns"),
    "ui, no search": (
        "ui",
        "home=nowhere",
        "home: no search was mirrored there (sqlite:///nowhere/mlflow.db is missing); give a search's: home=...",
    ),
    "ui, a zero byte": ("ui", "home=a\0b", "home: a\\x00b is no path (embedded null byte); give a search's: home=..."),
    "ui, no port": ("ui", "port=70000", "port: 70000 is no port; give a whole number from 1 to 65535"),
    "ui, digits of elsewhere": ("ui", "port=٣", "port: ٣ is no port; give a whole number from 1 to 65535"),
    "ui, misspelt key": ("ui", "hoem=x", "hoem: there is no such key; did you mean home?"),
}


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    """A directory with a file, and a home with a study of which nothing can be read."""
    (tmp_path / "a_file").write_text("")
    (tmp_path / "mlruns" / "studies" / "broken").mkdir(parents=True)
    (tmp_path / "mlruns" / "studies" / "broken" / "config.yaml").write_text("[1]")
    return tmp_path


def refused(command: str, *arguments: str, line: str, cwd: Path) -> None:
    """A command ends with one line, says nothing else and leaves nothing."""
    before = files(cwd)
    ended = run(command, *arguments, cwd=cwd)
    assert (ended.code, ended.out, ended.err) == (2, "", f"error: {line.replace('{cwd}', str(cwd))}\n")
    assert files(cwd) == before


@pytest.mark.parametrize(("typed", "line"), SEARCHES.values(), ids=SEARCHES)
def test_no_search(typed: str, line: str, tmp_path: Path) -> None:
    refused("search", "confirm.top=0", typed, line=line, cwd=tmp_path)


@pytest.mark.parametrize(("command", "typed", "line"), OTHERS.values(), ids=OTHERS)
def test_no_other_command(command: str, typed: str, line: str, cwd: Path) -> None:
    refused(command, typed, line=line, cwd=cwd)
