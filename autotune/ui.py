"""MLflow's UI on a home: ``python -m autotune.ui [home=mlruns] [experiment=autotune] [port=5000]``.

Opens the table of runs with the columns that tell one trial from another, searches and final trainings on top. The
database is the one a search in that home writes to: MLFLOW_TRACKING_URI where it is set, else mlflow.db in the home.
Ctrl-C ends it.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from autotune.disk import stdout_errors_said
from autotune.errors import UserError, first_line, nearest
from autotune.imports import uncollected
from autotune.interrupts import Signalled, handling_signals, ignore
from autotune.tracking.store import DATABASES, Store
from autotune.tracking.view import page, share_view
from autotune.trust.masking import mask

HOST = "127.0.0.1"
_SECONDS_TO_END = 10


@dataclass(frozen=True, slots=True)
class Options:
    """What the command takes."""

    home: Path = Path("mlruns")
    experiment: str = "autotune"
    port: int = 5000

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Options:
        """Read ``key=value`` as typed. Raises UserError."""
        given: dict[str, str] = {}
        for argument in arguments:
            key, equals, value = argument.partition("=")
            if not equals:
                raise UserError("command line", f"{argument} is not understood", "write key=value")
            if key not in cls.__slots__:
                raise UserError(key, "there is no such key", nearest(key, cls.__slots__))
            if not value:
                raise UserError(key, "has no value", f"give one: {key}=...")
            given[key] = value
        return cls(
            Path(given.get("home", cls().home)),
            given.get("experiment", cls().experiment),
            _port(given.get("port", str(cls().port))),
        )


def main() -> None:
    """Run the command. Raises SystemExit: 0 after Ctrl-C or SIGTERM, 1 where MLflow ended by itself, 2 a mistake."""
    try:
        with stdout_errors_said():
            if {"-h", "--help"} & set(sys.argv[1:]):
                print(__doc__)
                raise SystemExit(0)
            raise SystemExit(show(Options.of(sys.argv[1:])))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def show(options: Options) -> int:
    """Show a home in MLflow's UI until it is ended; returns the exit code.

    Raises:
        UserError: There is nothing to show, or the port is taken.
    """
    try:
        options.home.resolve().stat()
        (options.home / "mlflow.db").exists()
    except FileNotFoundError:
        pass  # which is said below, where it matters
    except PermissionError as error:
        problem = f"{options.home} cannot be read ({error.strerror})"
        raise UserError("home", problem, "give a search's: home=...") from error
    except (OSError, ValueError, RuntimeError) as error:
        problem = f"{options.home} is no path ({first_line(error)})"
        raise UserError("home", problem, "give a search's: home=...") from error
    store = Store(None, options.home)
    if store.uri.partition(":")[0].partition("+")[0] not in DATABASES:
        raise UserError(
            "MLFLOW_TRACKING_URI", f"{store.shown} is a server with a UI of its own", "open it, or unset it"
        )
    if not store.exists:
        raise UserError("home", f"no search was mirrored there ({store.shown} is missing)", "give a search's: home=...")
    _refuse_taken(options.port)
    experiment_id = _share_view(store, options.experiment)
    return _serve(store.uri, options.port, f"http://{HOST}:{options.port}/{page(experiment_id)}")


@uncollected()
def _share_view(store: Store, name: str) -> str:
    try:
        known = [experiment.name for experiment in store.client().search_experiments()]
        if name not in known:
            raise UserError("experiment", f"there is no {name} in {store.shown}", nearest(name, known))
        client, experiment_id = store.connect(name)
        share_view(client, client.get_experiment(experiment_id))
    except UserError:
        raise
    except Exception as error:  # MLflow, SQLAlchemy and each driver raise their own kinds
        problem = f"{store.shown} cannot be opened ({mask(first_line(error))})"
        raise UserError("home", problem, "give another: home=...") from error
    store.close()
    return experiment_id


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 2**16:
        raise UserError("port", f"{text} is no port", "give a whole number from 1 to 65535")
    return int(text)


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError("port", f"{port} cannot be used ({error.strerror})", "give another: port=5001") from error


def _serve(uri: str, port: int, address: str) -> int:
    """Run ``mlflow ui`` until a signal or until it ends by itself."""

    def stop(by: signal.Signals) -> None:
        ignore()  # who is impatient must not leave the server behind
        raise Signalled(by)

    with handling_signals(stop):
        server: subprocess.Popen[bytes] | None = None
        try:
            # A session of its own: it and its worker are ended together, and once.
            server = subprocess.Popen(_command(port), env=_environment(os.environ, uri), start_new_session=True)
            if _answers(server, port):
                print(f"the table of runs:  {address}\nCtrl-C ends it", flush=True)
                _open(address)
                server.wait()
            print(f"error: mlflow ui ended by itself with code {server.returncode}", file=sys.stderr)
        except KeyboardInterrupt:
            return 0
        finally:
            if server is not None:
                _end(server)
    return 1


def _command(port: int) -> list[str]:
    options = {
        "host": HOST,
        "port": port,
        "workers": 1,
        "uvicorn-opts": "--log-level warning",
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "mlflow", "ui", *words]


def _environment(given: Mapping[str, str], uri: str) -> dict[str, str]:
    """What ``mlflow ui`` is started with.

    The store's address comes this way since it may have a password, and everybody can read a command line. Left out
    are MLflow's eight processes for jobs of language models, and its advice to its own developers.
    """
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    return {**quiet, "MLFLOW_REGISTRY_STORE_URI": uri, **given, "MLFLOW_BACKEND_STORE_URI": uri}


def _answers(server: subprocess.Popen[Any], port: int) -> bool:
    """Wait until the server answers; False where it ended instead."""
    while server.poll() is None:
        try:
            with urlopen(f"http://{HOST}:{port}/health", timeout=5):
                return True
        except (URLError, OSError):
            time.sleep(0.1)
    return False


def _open(address: str) -> None:
    """Open the user's browser, where there is a display to open it on."""
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)


def _end(server: subprocess.Popen[Any]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


if __name__ == "__main__":
    main()
