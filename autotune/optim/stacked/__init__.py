"""The steps of many optimizers at once, on the rows of flat buffers: one file a family, the same steps as torch's."""

from torch.optim import Optimizer

from autotune.optim.stacked._stacked import StackedOptimizer
from autotune.optim.stacked.adafactor import StackedAdafactor
from autotune.optim.stacked.adagrad import StackedAdagrad
from autotune.optim.stacked.adam import StackedAdam
from autotune.optim.stacked.nadam import StackedNAdam
from autotune.optim.stacked.one_by_one import OneByOne
from autotune.optim.stacked.radam import StackedRAdam
from autotune.optim.stacked.rmsprop import StackedRMSprop
from autotune.optim.stacked.sgd import StackedSGD

__all__ = [
    "OneByOne",
    "StackedAdafactor",
    "StackedAdagrad",
    "StackedAdam",
    "StackedNAdam",
    "StackedOptimizer",
    "StackedRAdam",
    "StackedRMSprop",
    "StackedSGD",
    "stacked_for",
]

RULES: tuple[type[StackedOptimizer], ...] = (
    StackedSGD,
    StackedAdam,
    StackedRMSprop,
    StackedAdagrad,
    StackedNAdam,
    StackedRAdam,
    StackedAdafactor,
)


def stacked_for(optimizer: Optimizer) -> type[StackedOptimizer]:
    """The rule that makes this optimizer's steps for all members at once; else one member after another."""
    return next((rule for rule in RULES if rule.claims(optimizer)), OneByOne)
