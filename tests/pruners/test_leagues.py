"""Trials that take turns, judged in their leagues."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
    WilcoxonPruner,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune.pruners import WOULD_STOP, Leagues, Pruning, SuccessiveHalving, horizon
from autotune.pruners.leagues import FEWEST_STEPS, scaled
from autotune.space import Space

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

EPOCHS = 9
ASHA = partial(SuccessiveHalving, min_resource=1, reduction_factor=3)
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "asha": ASHA,
    "optuna's asha": partial(SuccessiveHalvingPruner, min_resource=1, reduction_factor=3),
    "asha that finds its first rung": SuccessiveHalvingPruner,
    "hyperband": partial(HyperbandPruner, max_resource=EPOCHS),
    "median": partial(MedianPruner, n_startup_trials=2),
    "percentile": partial(PercentilePruner, 25.0, n_startup_trials=2),
    "patient": partial(PatientPruner, MedianPruner(n_startup_trials=2), patience=1),
    "threshold": partial(ThresholdPruner, lower=0.3),
    "wilcoxon": partial(WilcoxonPruner, p_threshold=0.1),
}
every_pruner = pytest.mark.parametrize("make", PRUNERS.values(), ids=PRUNERS)


class Member(NamedTuple):
    """A trial: its optimizer, and its value at each epoch."""

    family: str
    values: Sequence[float]
    max_epochs: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        return {"optimizer": {"name": self.family}, "trainer": {"max_epochs": self.max_epochs or len(self.values)}}


def some(count: int, seed: int = 0, families: Sequence[str] = ("sgd", "adam", "bgd")) -> list[Member]:
    """Trials whose values rise, cross and are equal at times."""
    chance = random.Random(seed)
    members = []
    for _ in range(count):
        reach = chance.random()
        values = [round(reach * epoch / EPOCHS + chance.gauss(0, 0.05), 2) for epoch in range(1, EPOCHS + 1)]
        members.append(Member(chance.choice(families), values))
    return members


class Story(NamedTuple):
    """What became of trials: after how many epochs the leagues would have stopped each, and how it is kept."""

    stopped: dict[int, int]
    kept: dict[int, FrozenTrial]


def train(
    leagues: Leagues,
    members: Sequence[Member],
    slots: int = 4,
    first: int = 0,
    audited: Callable[[int], bool] = lambda _: False,
) -> Story:
    """Train members from the first on, an epoch of each in turn, as a coordinator would."""
    stopped: dict[int, int] = {}
    kept: dict[int, FrozenTrial] = {}
    begun, lane = first, list[tuple[int, int]]()
    while True:
        while len(lane) < slots and begun < len(members):
            leagues.begin(begun, members[begun].config)
            lane.append((begun, 0))
            begun += 1
        if not lane:
            return Story(stopped, kept)
        number, epochs = lane.pop(0)
        values = members[number].values
        epochs += 1
        leagues.report(number, epochs, values[epochs - 1])
        if epochs == len(values):
            notes = leagues.end(number, TrialState.COMPLETE, max(values))
            kept[number] = _kept(TrialState.COMPLETE, max(values), values, kept.get(number), notes)
        elif not leagues.would_stop(number):
            lane.append((number, epochs))
        else:
            stopped[number] = epochs
            notes = leagues.end(number, TrialState.PRUNED, values[epochs - 1])
            kept[number] = _kept(TrialState.PRUNED, values[epochs - 1], values[:epochs], None, notes)
            if audited(number):
                kept[number].user_attrs = {WOULD_STOP: epochs}
                lane.append((number, epochs))


def _kept(
    state: TrialState, value: float, values: Sequence[float], noted: FrozenTrial | None, notes: Mapping[str, Any]
) -> FrozenTrial:
    return create_trial(
        state=state,
        value=value,
        intermediate_values=dict(enumerate(values, 1)),
        user_attrs={} if noted is None else noted.user_attrs,
        system_attrs={**({} if noted is None else noted.system_attrs), **notes},
    )


def leagues(
    make: Callable[[], BasePruner],
    compare: str = "family_then_all",
    until: float = 0.1,
    steps: int | None = EPOCHS,
    direction: str = "maximize",
) -> Leagues:
    return Leagues(Pruning(make, compare, until), "s", direction, steps)


@every_pruner
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_all_are_compared_as_in_one_study_of_optunas(make: Callable[[], BasePruner], direction: str) -> None:
    members = some(80)
    study = optuna.create_study(study_name="s", direction=direction, pruner=make())
    theirs: dict[int, int] = {}
    asked: dict[int, optuna.Trial] = {}

    class Theirs(Leagues):
        def begin(self, number: int, config: Mapping[str, Any]) -> None:
            asked[number] = study.ask()

        def report(self, number: int, epochs: int, value: float) -> None:
            asked[number].report(value, epochs)

        def would_stop(self, number: int) -> bool:
            return asked[number].should_prune()

        def end(self, number: int, state: TrialState, value: float | None = None) -> dict[str, Any]:
            study.tell(asked[number], value if state == TrialState.COMPLETE else None, state)
            return {}

    theirs = train(Theirs(Pruning(make), "s", direction, EPOCHS), members).stopped
    assert train(leagues(make, "all", direction=direction), members).stopped == theirs
    assert theirs


@every_pruner
def test_a_family_is_judged_as_if_it_were_alone(make: Callable[[], BasePruner]) -> None:
    members = some(90)
    together = train(leagues(make, "family"), members, slots=len(members)).stopped
    for family in ("sgd", "adam", "bgd"):
        numbers = [number for number, member in enumerate(members) if member.family == family]
        # The name matters to Hyperband alone.
        alone = Leagues(Pruning(make, "all"), f"s {family}", "maximize", EPOCHS)
        found = train(alone, [members[number] for number in numbers], slots=len(members)).stopped
        assert {numbers[place]: epochs for place, epochs in found.items()} == {
            number: epochs for number, epochs in together.items() if number in numbers
        }


@pytest.mark.parametrize("name", [name for name in PRUNERS if name != "hyperband"])  # it deals by the league's name
def test_where_there_is_one_family_all_ways_are_one(name: str) -> None:
    members = some(80, families=["sgd"])
    ways = ("all", "family", "family_then_all")
    first, *others = (train(leagues(PRUNERS[name], way, until=0.0), members).stopped for way in ways)
    assert others == [first, first]


def test_a_family_is_compared_with_others_only_after_a_part_of_the_epochs() -> None:
    members = some(90)
    family, late, never = (
        train(leagues(ASHA, compare, until), members).stopped
        for compare, until in (("family", 0.0), ("family_then_all", 0.3), ("family_then_all", 1.0))
    )
    assert never == family
    assert {number for number, epochs in late.items() if epochs < 3} == {
        number for number, epochs in family.items() if epochs < 3
    }
    assert late != family


def slow_and_fast(count: int, seed: int) -> list[Member]:
    """Two families of equal reach; the slow one has nothing to show for the first two thirds."""
    chance = random.Random(seed)
    members = []
    for number in range(count):
        reach = chance.random()
        family = "slow" if number % 2 else "fast"
        rise = 6 if family == "slow" else 0.5
        members.append(Member(family, [reach * (epoch / EPOCHS) ** rise for epoch in range(1, EPOCHS + 1)]))
    return members


@pytest.mark.parametrize("slots", [1, 6])
@pytest.mark.parametrize("seed", range(3))
def test_a_slow_family_is_tuned_too(seed: int, slots: int) -> None:
    members = slow_and_fast(60, seed)
    slow = [number for number, member in enumerate(members) if member.family == "slow"]
    plain = train(leagues(ASHA, "all"), members, slots).stopped
    fair = train(leagues(ASHA), members, slots).stopped
    assert len(plain.keys() & set(slow)) >= len(slow) - 1, "against fast ones it has no chance"
    through = [max(members[number].values) for number in slow if number not in fair]
    assert len(through) > 1
    assert max(through) > 0.85, "of reaches that are anything from 0 to 1"


def test_the_best_of_a_family_stays_until_two_of_it_are_through() -> None:
    rising = [[0.1 * (0.5 + 0.1 * number) * epoch for epoch in range(1, EPOCHS + 1)] for number in range(4)]
    fast = [Member("fast", [0.9] * EPOCHS) for _ in range(9)]
    members = [*fast, *(Member("slow", values) for values in rising)]
    story = train(leagues(ASHA), members, slots=1)
    assert story.kept[9].state == story.kept[10].state == TrialState.COMPLETE
    assert {number: epochs for number, epochs in story.stopped.items() if number > 10} == {11: 1, 12: 1}


def test_of_two_weak_trials_of_a_family_the_one_that_was_outdone_goes() -> None:
    fast = [Member("fast", [0.9] * EPOCHS) for _ in range(10)]
    first = Member("slow", [0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.17, 0.18])
    second = Member("slow", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.7, 0.7, 0.7])
    story = train(leagues(ASHA), [*fast, first, second], slots=2)
    assert story.stopped == {10: 2}, "the second was better after its first epoch"
    assert story.kept[11].state == TrialState.COMPLETE


def test_one_that_goes_on_for_its_familys_sake_is_no_rival_of_the_others() -> None:
    fast = [Member("fast", [0.9] * EPOCHS) for _ in range(9)]
    story = train(leagues(ASHA), [*fast, Member("slow", [0.1] * EPOCHS)], slots=1)
    notes = story.kept[9].system_attrs["leagues"]
    assert story.kept[9].state == TrialState.COMPLETE
    assert notes["all"]["epochs"] == 1
    assert notes["family"]["epochs"] == EPOCHS


@every_pruner
@pytest.mark.parametrize("compare", ["all", "family_then_all"])
@pytest.mark.parametrize("seed", range(3))
def test_after_a_pause_trials_are_judged_as_without_one(
    make: Callable[[], BasePruner], compare: str, seed: int
) -> None:
    """Where none was in training: what the pruners noted, who left a league early and who was audited is all kept."""
    members = some(60, seed) + slow_and_fast(30, seed)
    half = len(members) // 2
    audited = frozenset(random.Random(seed).sample(range(len(members)), 20))
    unbroken = leagues(make, compare)
    begun = train(unbroken, members[:half], audited=audited.__contains__)
    expected = train(unbroken, members, first=half, audited=audited.__contains__)
    again = leagues(make, compare)
    for number in range(half):
        again.restore(begun.kept[number], members[number].config)
    assert train(again, members, first=half, audited=audited.__contains__).stopped == expected.stopped
    assert begun.stopped.keys() & audited
    assert expected.stopped


def test_a_study_may_go_on_with_another_comparison() -> None:
    """Then a league that is new begins with the reports, and with no note of a pruner."""
    members = some(60)
    begun = train(leagues(PRUNERS["median"], "all"), members[:30])
    again = leagues(PRUNERS["median"], "family")
    for number in range(30):
        again.restore(begun.kept[number], members[number].config)
    early = [epochs for number, epochs in train(again, members, first=30).stopped.items() if number < 34]
    assert early, "those that are stopped at once are compared with trials of the earlier run"


def test_an_audited_trial_that_was_interrupted_stays_out_of_its_leagues() -> None:
    members = some(30)
    judged = leagues(ASHA)
    story = train(judged, members)
    number, epochs = next(iter(story.stopped.items()))
    kept = story.kept[number]
    interrupted = FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.WAITING,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={WOULD_STOP: epochs},
        system_attrs=kept.system_attrs,
        intermediate_values=dict(enumerate(members[number].values[: epochs + 2], 1)),
    )
    again = leagues(ASHA)
    again.restore(interrupted, members[number].config)
    for epoch, value in enumerate(members[number].values, 1):
        again.report(number, epoch, value)
        assert not again.would_stop(number)
    assert again.end(number, TrialState.COMPLETE, 1.0) == {}


def test_without_a_pruner_nothing_is_kept_or_noted() -> None:
    story = train(leagues(NopPruner), some(20))
    assert not story.stopped
    assert all(trial.system_attrs == {} for trial in story.kept.values())


@given(own=st.integers(1, 300), other=st.integers(1, 300))
def test_steps_are_equal_parts_of_a_trial(own: int, other: int) -> None:
    """However long: step s is told at the first epoch by which s/steps of the training is over, the last at the end."""
    steps = min(max(min(own, other), FEWEST_STEPS), max(own, other))
    told = [scaled(epoch, own, steps) for epoch in range(1, own + 1)]
    assert told[-1] == steps
    assert told == sorted(told)
    for epoch, step in enumerate(told, 1):
        assert step / steps <= epoch / own
        if step > scaled(epoch - 1, own, steps):
            assert (epoch - 1) / own < step / steps
    if own >= steps:
        assert set(told) - {0} == set(range(1, steps + 1)), "none is left out"
    assert [scaled(epoch, own, own) for epoch in range(own + 1)] == list(range(own + 1))
    assert scaled(7, None, 9) == scaled(7, 9, None) == 7


@pytest.mark.parametrize("compare", ["all", "family_then_all"])
def test_trials_of_other_lengths_are_compared_at_equal_parts_of_them(compare: str) -> None:
    """All that are the same at equal parts go on together, and each length is stopped at the parts the others are."""
    lengths = (9, 18, 45, 90)

    def member(length: int, reach: float) -> Member:
        return Member("sgd", [reach * epoch / length for epoch in range(1, length + 1)])

    same = [member(length, 0.5) for length in lengths]
    assert not train(leagues(ASHA, compare), same, slots=4).stopped
    falling = [member(length, 0.9 - number / 50) for number, length in enumerate(lengths * 6)]
    stopped = train(leagues(ASHA, compare), falling, slots=24).stopped
    assert {epochs / len(falling[number].values) for number, epochs in stopped.items()} <= {1 / 9, 3 / 9}
    assert {len(falling[number].values) for number in stopped} == set(lengths)


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"trainer": {"max_epochs": 27}}, 27),
        ({"trainer": {"max_epochs": 5}}, 5),
        ({"trainer": {"max_epochs": "choice(20,50)"}}, 20),
        ({"trainer": {"max_epochs": "range(5,50,5)"}}, FEWEST_STEPS),
        ({"trainer": {"max_epochs": "int(interval(1,6))"}}, 6),
        ({"trainer": {"max_epochs": None}}, None),
        ({"trainer": {"max_epochs": "choice(20,-1)"}}, None),
        ({"trainer": {}}, None),
        (
            {
                "trainer": {"max_epochs": 27},
                "optimizer": {
                    "only": ["sgd", "bgd"],
                    "sgd": {"name": "sgd"},
                    "bgd": {"name": "bgd", "_fix_": {"trainer.max_epochs": 200}},
                },
            },
            27,
        ),
        ({"trainer": {"max_epochs": "${data.epochs}"}, "data": {"epochs": "choice(30,60)"}}, 30),
    ],
    ids=str,
)
def test_all_trials_are_told_in_the_steps_of_the_shortest(changes: dict[str, Any], steps: int | None) -> None:
    space = Space({"optimizer": {"name": "sgd", "lr": "tag(log,interval(1e-4,1))"}, **changes})
    assert horizon(space) == steps


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_the_audited_are_the_share_that_is_asked_for(share: float, seed: int) -> None:
    pruning = Pruning(NopPruner, audit=share)
    drawn = [pruning.audits(seed, number) for number in range(2_000)]
    assert drawn == [Pruning(NopPruner, audit=share).audits(seed, number) for number in range(2_000)]
    spread = math.sqrt(share * (1 - share) / len(drawn))
    assert abs(sum(drawn) / len(drawn) - share) <= 6 * spread
    wider = Pruning(NopPruner, audit=min(1.0, share + 0.1))
    assert all(wider.audits(seed, number) for number, is_drawn in enumerate(drawn) if is_drawn)


def test_other_seeds_audit_other_trials() -> None:
    pruning = Pruning(NopPruner, audit=0.5)
    assert len({tuple(pruning.audits(seed, number) for number in range(40)) for seed in range(20)}) == 20


@pytest.mark.parametrize("is_restored", [False, True])
@pytest.mark.parametrize("compare", ["all", "family_then_all"])
@pytest.mark.parametrize(
    "make",
    [PRUNERS[name] for name in sorted(PRUNERS) if name != "hyperband"],
    ids=sorted(PRUNERS.keys() - {"hyperband"}),
)
def test_those_that_diverged_make_nobody_look_good_or_bad(
    make: Callable[[], BasePruner], compare: str, is_restored: bool
) -> None:
    """Half of them were the best before, and half the worst. (Hyperband deals its brackets by number.)"""
    members = some(40)
    lost = [Member("sgd", [20.0, 21.0, 22.0]), Member("adam", [-20.0, -21.0, -22.0])] * 5
    judged, again = leagues(make, compare), leagues(make, compare)
    for number, member in enumerate(lost):
        judged.begin(number, member.config | {"trainer": {"max_epochs": EPOCHS}})
        for epochs, value in enumerate(member.values, 1):
            judged.report(number, epochs, value)
            judged.would_stop(number)
        notes = judged.end(number, TrialState.PRUNED, diverged=True)
        kept = _kept(TrialState.PRUNED, 0.0, member.values, None, notes)
        kept.user_attrs = {"reason": "diverged"}
        again.restore(kept, member.config | {"trainer": {"max_epochs": EPOCHS}})
    found = train(again if is_restored else judged, [*lost, *members], first=len(lost)).stopped
    expected = train(leagues(make, compare), members).stopped
    assert found == {number + len(lost): epochs for number, epochs in expected.items()}
