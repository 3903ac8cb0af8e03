"""The package as others install it: a wheel, in an environment that knows nothing of this checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from autotune.compose import conf_dir

from .commands import USERS_ARGUMENTS, environment, files, plain_yaml, summary, trials, write_users_own

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built here."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, cwd=folder)
    (built,) = folder.iterdir()
    return built


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it."""

    folder: Path

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run its Python, with the user's own modules in the directory at hand."""
        variables = environment(PYTHONPATH=str(cwd))
        python = self.folder / "bin" / "python"
        return subprocess.run([python, *arguments], cwd=cwd, env=variables, capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A fresh environment: the wheel is its own, what the wheel depends on is borrowed from ours.

    Ours is added as one more folder of modules. Its .pth files, by which it knows the checkout, are not followed there.
    """
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    borrowed = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (packages / "borrowed.pth").write_text("".join(f"{path}\n" for path in borrowed))
    return Installed(folder)


def test_the_wheel_has_the_package_and_every_file_of_conf(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    conf = {f"autotune/conf/{file.relative_to(conf_dir())}" for file in conf_dir().rglob("*.yaml")}
    package = [file for kind in ("*.py", "*.html") for file in (ROOT / "autotune").rglob(kind)]
    modules = {str(file.relative_to(ROOT)) for file in package}
    assert conf | modules | {"autotune/py.typed"} == {name for name in names if ".dist-info/" not in name}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_a_search_from_the_wheel_with_a_users_own_files(installed: Installed, tmp_path: Path) -> None:
    where = "import autotune; from autotune.compose import conf_dir; print(autotune.__file__); print(conf_dir())"
    told = installed.run("-c", where, cwd=tmp_path)
    assert all(Path(line).is_relative_to(installed.folder) for line in told.stdout.split()), told
    paths = installed.run("-c", "import sys; print(*sys.path, sep='\\n')", cwd=tmp_path).stdout.splitlines()
    assert str(ROOT) not in paths

    write_users_own(tmp_path)
    before = files(tmp_path)
    small = ["trainer.accelerator=cpu", "trainer.max_epochs=3", "budget.trials=3", "study.name=mine", "tracking=none"]
    ended = installed.run("-m", "autotune.search", *USERS_ARGUMENTS, *small, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    study = tmp_path / "mlruns" / "studies" / "mine"
    assert summary(study)["trials"] == len(trials(study)) == 3
    best = plain_yaml(study / "best.yaml")
    assert (best["model"]["_target_"], best["data"]["_target_"]) == ("users_own.Model", "users_own.Data")
    assert best["optimizer"]["_target_"] == "torch.optim.RMSprop"
    assert best["data"]["batch_size"] in (20, 40)
    assert best["objective"]["metric"] == "val_acc"
    written = {path for path in files(tmp_path) - before if "__pycache__" not in path}
    assert all(path.startswith("mlruns/studies/mine/") for path in written)
