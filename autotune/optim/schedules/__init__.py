"""Learning-rate schedules as functions of training progress, one a file, the same for every executor."""

from autotune.optim.schedules._progress import Progress, Schedule
from autotune.optim.schedules.constant import Constant
from autotune.optim.schedules.cosine import Cosine
from autotune.optim.schedules.cosine_restarts import CosineRestarts
from autotune.optim.schedules.dynamic import Dynamic
from autotune.optim.schedules.exponential import Exponential
from autotune.optim.schedules.inverse_time import InverseTime
from autotune.optim.schedules.linear import Linear
from autotune.optim.schedules.multistep import MultiStep
from autotune.optim.schedules.one_cycle import OneCycle
from autotune.optim.schedules.plateau import Plateau
from autotune.optim.schedules.polynomial import Polynomial
from autotune.optim.schedules.step import Step
from autotune.optim.schedules.warmup import Warmup
from autotune.optim.schedules.wsd import WSD

__all__ = [
    "WSD",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Dynamic",
    "Exponential",
    "InverseTime",
    "Linear",
    "MultiStep",
    "OneCycle",
    "Plateau",
    "Polynomial",
    "Progress",
    "Schedule",
    "Step",
    "Warmup",
]
