from __future__ import annotations

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import OmegaConf

from autotune.compose import conf_dir
from autotune.tracking import Ending
from tests.tracking.stories import THE_STUDY, completed, record


def test_hears_everything_and_writes_nothing(tmp_path: Path) -> None:
    tracker = instantiate(OmegaConf.load(conf_dir() / "tracking" / "none.yaml"), home=tmp_path)
    tracker.search_started(THE_STUDY, {"a": 1}, "", resumed=False)
    tracker.trial_started(record())
    tracker.trial_advanced(record())
    tracker.trial_ended(completed())
    tracker.search_ended(Ending("FINISHED"))
    tracker.close()
    assert tracker.ui_command == ""
    assert list(tmp_path.iterdir()) == []
