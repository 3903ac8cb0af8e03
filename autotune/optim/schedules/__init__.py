"""Learning-rate schedules as functions of training progress, one a file, the same for every executor."""

from autotune.optim.schedules._progress import Progress, Schedule
from autotune.optim.schedules.constant import Constant
from autotune.optim.schedules.cosine import Cosine
from autotune.optim.schedules.dynamic import Dynamic
from autotune.optim.schedules.exponential import Exponential

__all__ = ["Constant", "Cosine", "Dynamic", "Exponential", "Progress", "Schedule"]
