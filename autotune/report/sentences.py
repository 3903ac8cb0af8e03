"""The answer of a search in plain sentences, the same for the page, for MLflow's note and for the terminal."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from autotune import naming
from autotune.kept.outcome import Outcome
from autotune.report import cost as costs
from autotune.report import worth
from autotune.report.cost import Cheaper
from autotune.report.ends import measured
from autotune.report.findings import Findings
from autotune.report.pruned import Errs
from autotune.report.ranges import GoodRates, untried_end
from autotune.report.surrogate import MEASURED
from autotune.report.worth import Worth
from autotune.standing import Contender, Estimate, Standing
from autotune.trial import Reason, Record, State
from autotune.typed import train_command

NAMES = {
    "model.batch_norm": "BatchNorm",
    "data.batch_size": "batch size",
    "optimizer": "optimizer",
    "schedule": "schedule",
}
MINUS = "\N{MINUS SIGN}"
SPOKEN = 3  # options of one choice that a sentence names; the table has all
SHOWN_ERRORS = 5

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~])")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts under a head."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report.

    Attributes:
        key: Its anchor.
        title: What stands above it.
        lines: Its sentences.
        table: Its table, where it has one.
        command: What to type, where there is something to do.
        note: How its numbers were computed, where that must be said.
    """

    key: str
    title: str
    lines: list[str] = field(default_factory=list)
    table: Table | None = None
    note: str = ""
    command: str = ""


def sections(findings: Findings) -> list[Section]:
    """The report in words: the answer first, then what it rests on."""
    told = [
        answer(findings),
        _winner_section(findings.outcome),
        _contenders(findings.outcome),
        _worth_section(findings),
        _rates_section(findings),
        _pruner_section(findings),
        _failures_section(findings.outcome),
        _cost_section(findings),
    ]
    return [section for section in told if section.lines or section.table is not None]


def markdown(outcome: Outcome, findings: Findings | None = None) -> str:
    """The answer as Markdown, for the note of the MLflow parent run."""
    told = answer(findings or Findings.of(outcome))
    return "".join("- " + _MARKDOWN.sub(r"\\\1", line) + "\n" for line in told.lines)


def answer(findings: Findings) -> Section:
    """The answer: what to use, how sure that is, what each choice is worth, where to search on."""
    outcome = findings.outcome
    lines = [*_progress(outcome), *_best(outcome)]
    if outcome.best is not None and not outcome.is_noise:
        lines += _worth_sentences(findings)
        lines += _rate_sentences(findings)
        lines += _edge_sentences(findings)
    lines += _saved(findings)
    lines += _failed(outcome)
    if outcome.best is not None and not outcome.is_noise:
        lines += _cost_sentences(findings)
    return Section("answer", "The answer", lines)


# The best.


def _progress(outcome: Outcome) -> list[str]:
    running = sum(record.state == State.RUNNING for record in outcome.records)
    waiting = sum(record.state == State.WAITING for record in outcome.records)
    lines = []
    if not outcome.records:
        lines.append("There is no trial yet.")
    if running:
        lines.append(
            f"The search is not over: {_counted(running, 'trial')} of {len(outcome.records)} "
            f"{'is' if running == 1 else 'are'} in training."
        )
    if waiting:
        lines.append(
            f"The search was interrupted: {_counted(waiting, 'trial')} will be trained again when it goes on "
            f"(the same command with study.name={outcome.name})."
        )
    return lines


def _best(outcome: Outcome) -> list[str]:
    winner, standing, metric = outcome.winner, outcome.standing, outcome.objective.metric
    if winner is None:
        return (
            [] if not outcome.records else ["No trial has been trained to its end, so that there is no best strategy."]
        )
    words = f"{naming.strategy(winner.config, winner.params)} (trial {winner.number})"
    if outcome.is_noise:
        return [
            f"Nothing learnable was found: {outcome.verdict}.",
            f"The luckiest draw was {words}, {metric} {score(winner.objective)}; it is no winner.",
        ]
    if standing is None:
        lines = [
            f"The best strategy is {words}, {metric} {score(winner.objective)} in the search. It was not trained again "
            "with other seeds, so that some of this may be luck."
        ]
        second = _second(outcome, winner)
        if second is not None:
            behind = abs((winner.objective or 0.0) - (second.objective or 0.0))
            lines.append(
                f"The runner-up is {naming.strategy(second.config, second.params)} (trial {second.number}), {metric} "
                f"{score(second.objective)}: {behind:.3g} behind, on one seed each."
            )
        return lines
    first = standing.winner
    lines = [f"The best strategy is {words}: confirmed {metric} {_estimate(first.score)}; {standing.why}."]
    others = [each for each in standing.contenders if each is not first]
    if others:
        lines.append(_runner_up(outcome, first, others[0]))
    return lines


def _runner_up(outcome: Outcome, first: Contender, second: Contender) -> str:
    ahead = first.ahead_of(second)
    if outcome.objective.direction == "minimize":
        ahead = Estimate(-ahead.mean, -ahead.high, -ahead.low, ahead.count)
    far = f"{_fixed(abs(ahead.mean), _places(ahead))} {'behind' if ahead.mean >= 0 else 'ahead'} on the same seeds"
    sure = "" if ahead.is_sure else ", which chance alone can make"
    bounds = "" if ahead.count < 2 else f" (the winner's lead: {_bounds(ahead)})"
    words = naming.strategy(second.record.config, second.record.params)
    return (
        f"The runner-up is {words} (trial {second.record.number}): "
        f"{_fixed(second.score.mean, _places(second.score) or 4)}, {far}{bounds}{sure}."
    )


def _second(outcome: Outcome, winner: Record) -> Record | None:
    others = [record for record in outcome.records if measured(record) and record.number != winner.number]
    if not others:
        return None
    best = outcome.objective.best([record.objective or 0.0 for record in others])
    return next(record for record in others if record.objective == best)


def _winner_section(outcome: Outcome) -> Section:
    """The winner's exact settings, and the command that trains it."""
    section = Section("winner", "Use the winner")
    winner = outcome.winner
    if winner is None or outcome.is_noise:
        return section
    section.lines.append(
        "best.yaml, beside this page, is its whole config. What was searched of it, to the last digit:"
    )
    rows = tuple((name, f"{value}") for name, value in winner.params.items())
    train = train_command(outcome.name, outcome.config, outcome.notes)
    return Section(section.key, section.title, section.lines, Table(("setting", "value"), rows), command=train)


def _contenders(outcome: Outcome) -> Section:
    standing = outcome.standing
    section = Section("confirmed", "Trained again with other seeds")
    if standing is None:
        return section
    section.lines.append(
        f"The best configurations of the search were trained again, on the same seeds, {outcome.objective.metric} each."
        " The mean says what a strategy is worth; the best of the search is the luckiest draw too."
    )
    section.lines.extend(f"Trial {number} could not be confirmed: {how}." for number, how in standing.failed.items())
    rows = [
        (
            f"{each.record.number}",
            naming.strategy(each.record.config, each.record.params),
            score(each.record.objective),
            _fixed(each.score.mean, _places(each.score) or 4),
            _bounds(each.score),
            f"{each.score.count}",
            _place(each, standing),
        )
        for each in standing.contenders
    ]
    head = ("trial", "strategy", "in the search", "confirmed", "95 % interval", "seeds", "")
    return Section(section.key, section.title, section.lines, Table(head, tuple(rows)))


def _place(contender: Contender, standing: Standing) -> str:
    seeds = len(contender.diverged) + len(contender.values)
    diverged = f"diverged with {len(contender.diverged)} of {seeds} seeds" if contender.diverged else ""
    if contender is standing.winner:
        return f"winner, {diverged}" if diverged else "winner"
    return "cannot be told from the best" if contender in standing.tied else diverged


# What each choice is worth.


def _by_parameter(worths: Iterable[Worth]) -> dict[str, list[Worth]]:
    found: dict[str, list[Worth]] = defaultdict(list)
    for each in worths:
        found[each.parameter].append(each)
    return found


def _worth_sentences(findings: Findings) -> list[str]:
    """One sentence for each of the choices that have a name, and for others that surely matter."""
    lines = []
    unknown = []
    for parameter, several in _by_parameter(findings.worths).items():
        known = [each for each in several if each.at_best is not None or each.everywhere is not None]
        if not known:
            if parameter in NAMES:
                unknown.append(NAMES[parameter])
            continue
        told = _worth_sentence(parameter, known)
        if parameter in NAMES or any(each.everywhere is not None and each.everywhere.is_sure for each in known):
            lines.append(told)
    if unknown:
        verb = "is" if len(unknown) == 1 else "are"
        lines.append(f"Too few trials were trained to their end to say what {listed(unknown)} {verb} worth.")
    return lines


def _worth_sentence(parameter: str, known: Sequence[Worth]) -> str:
    first = known[0]
    if first.option is True:
        subject = label(parameter)
        return (
            f"{subject[0].upper()}{subject[1:]} is worth {_two(first)} averaged over the whole space, everything else "
            f"the same.{_doubt([first])}"
        )
    ordered = sorted(known, key=lambda each: -_mean(each))
    spoken = ordered if len(ordered) <= SPOKEN else [ordered[0], ordered[-1]]
    parts = [f"{_two(each)} against {_option(each.other)}" for each in spoken]
    left = "" if len(ordered) <= SPOKEN else f" ({len(ordered) - 2} others lie in between)"
    subject = label(parameter)
    return (
        f"{subject[0].upper()}{subject[1:]}: averaged over the whole space {_option(first.option)} is worth "
        f"{listed(parts)}{left}.{_doubt(spoken)}"
    )


def _doubt(several: Sequence[Worth]) -> str:
    sure = [each for each in several if each.everywhere is not None and each.everywhere.is_sure]
    return "" if sure else " That may be nothing: the intervals hold 0."


def _mean(each: Worth) -> float:
    return 0.0 if each.everywhere is None else each.everywhere.mean


def _two(each: Worth) -> str:
    if each.everywhere is None:
        return "an unknown amount"
    return f"{difference(each.everywhere)}"


def _worth_section(findings: Findings) -> Section:
    section = Section("worth", "What each choice is worth", note=worth.COMPUTED)
    several = findings.worths
    if not several:
        return Section(section.key, section.title)
    better = findings.outcome.objective.metric
    rows = tuple(
        (
            label(each.parameter),
            f"{_option(each.option)} against {_option(each.other)}",
            _cell(each.everywhere),
            _cell(each.at_best),
            _cell(each.confirmed),
            f"{each.trials[0]} and {each.trials[1]}",
        )
        for each in several
    )
    lines = [f"By how much {better} is better with one option than with the other, all other settings the same."]
    if all(each.everywhere is None for each in several):
        lines.append(
            "Too few trials were trained to their end to say "
            f"({len({end.number for end in findings.ends if end.is_measured})}; "
            f"it takes {MEASURED}): a number here would be chance."
        )
    elif any(each.everywhere is None for each in several):
        lines.append(f"Nothing is said of options with fewer than {worth.FEWEST} trials.")
    head = ("choice", "option", "over the whole space", "at the ten best", "confirmed, seed by seed", "trials")
    return Section(section.key, section.title, lines, Table(head, rows), section.note)


# The learning rate and the edge of the space.


def _rate_sentences(findings: Findings) -> list[str]:
    known = [each for each in findings.rates if not math.isnan(each.low)]
    if not known:
        return ["Too few trials tell which learning rates are good."] if findings.rates else []
    parts = [f"{naming.short(each.low)} to {naming.short(each.high)} for {each.family}" for each in known[:SPOKEN]]
    rest = "" if len(known) <= SPOKEN else f" ({len(known) - SPOKEN} more in the table)"
    return [f"Good learning rates: {listed(parts)}{rest}.", *_beyond(findings)]


def _beyond(findings: Findings) -> list[str]:
    """Where good rates reach the end of the space."""
    by_end: dict[str, list[str]] = defaultdict(list)
    for each in findings.rates:
        end = untried_end(each)
        if end is not None:
            by_end[end].append(each.family)
    return [
        f"Those of {listed(families)} reach {'both ends' if end == 'both' else f'the {end} end'} of what was searched: "
        "there may be better ones beyond."
        for end, families in by_end.items()
    ]


def _rates_section(findings: Findings) -> Section:
    section = Section("rates", "Good learning rates")
    if not findings.rates:
        return section
    section.lines.append(
        "The rates of the trials that came as near to the best of their family as another seed might bring "
        "them; one that "
        "was stopped counts where it is known closely enough what it would have come to. With fewer than three such "
        "trials there is no range."
    )
    rows = tuple(_rate_row(each) for each in findings.rates)
    head = ("optimizer", "good rates", "searched", "best score", "good trials", "trials")
    return Section(section.key, section.title, section.lines, Table(head, rows))


def _rate_row(each: GoodRates) -> tuple[str, ...]:
    found = "too few trials" if math.isnan(each.low) else f"{naming.short(each.low)} to {naming.short(each.high)}"
    space = f"{naming.short(each.space[0])} to {naming.short(each.space[1])}"
    return each.family, found, space, score(each.best), f"{each.good}", f"{each.trials}"


def _edge_sentences(findings: Findings) -> list[str]:
    if findings.edges:
        return [
            f"The winner's {label(each.parameter)}, {_number(each.value)}, lies at the {each.end} end of what "
            "was searched "
            f"({_number(each.low)} to {_number(each.high)}); where it may go further, search on with {each.wider}."
            for each in findings.edges
        ]
    winner = findings.outcome.winner
    if winner is None or not any(isinstance(value, float) for value in winner.params.values()):
        return []
    return ["No number of the winner lies at an end of what was searched."]


# The pruner, failures, costs.


def _saved(findings: Findings) -> list[str]:
    known = findings.savings
    if not known.stopped:
        return []
    lines = [
        f"{known.stopped:,} of {len(findings.outcome.records):,} trials were stopped early: {known.trained:,} epochs "
        f"were trained instead of {known.full:,} ({_percent(known.share)} saved)."
    ]
    if known.errs is not None:
        lines.append(_audited("would have been stopped and were trained on", known.errs))
    return lines


def _audited(what: str, errs: Errs) -> str:
    low, high = errs.interval
    count = "1 trial" if errs.audited == 1 else f"{errs.audited} trials"
    return (
        f"Of {count} that {what}, {errs.among_best} ended among the best tenth (95 % interval of that share: "
        f"{_percent(low)} to "
        f"{_percent(high)}) and {errs.beat_winner} better than the winner."
    )


def _pruner_section(findings: Findings) -> Section:
    known, metric = findings.savings, findings.outcome.objective.metric
    section = Section("pruner", "What the pruner saved and cost")
    if not known.stopped and known.errs is None:
        return section
    section.lines.append(
        f"The pruner stopped {_counted(known.stopped, 'trial')} and so saved {known.saved:,} epochs, those of "
        "the audit "
        "taken off."
    )
    if known.errs is None:
        section.lines.append(
            "No trial was trained on to see whether the pruner errs (pruner.audit); what it cost is not known."
        )
        return section
    section.lines.append(
        f"To see whether it errs, {_counted(known.errs.audited, 'trial')} that it would have stopped went on, for "
        f"{known.audit_epochs:,} epochs."
    )
    if known.best_from is not None:
        section.lines.append(f"The best tenth of all trials begins at {metric} {score(known.best_from)}.")
    if known.regret is not None:
        section.lines.append(
            "None of them ended better than the best of the others: there is no sign that it stopped the best."
            if known.regret == 0
            else f"The best of them ended {known.regret:.3g} better than the best of the others: the pruner's regret."
        )
    rows = tuple(_errs_row(name, each) for name, each in [("all", known.errs), *known.by_family.items()])
    head = ("optimizer", "audited", "among the best tenth", "95 % interval", "better than the winner")
    return Section(section.key, section.title, section.lines, Table(head, rows))


def _errs_row(name: str, errs: Errs) -> tuple[str, ...]:
    low, high = errs.interval
    return name, f"{errs.audited}", f"{errs.among_best}", f"{_percent(low)} to {_percent(high)}", f"{errs.beat_winner}"


def _failed(outcome: Outcome) -> list[str]:
    reasons = Counter(record.reason for record in outcome.records)
    parts = [
        f"{_counted(reasons[reason], 'trial')} {words}"
        for reason, words in (
            (Reason.DIVERGED, "diverged"),
            (Reason.OOM, "ran out of memory"),
            (Reason.ERROR, "raised an error"),
        )
        if reasons[reason]
    ]
    return [f"{listed(parts)}."] if parts else []


def _failures_section(outcome: Outcome) -> Section:
    section = Section("failures", "What failed and why")
    diverged = [record for record in outcome.records if record.reason == Reason.DIVERGED]
    if diverged:
        parts = [
            f"{count} of {family}{_from_rate([record for record in diverged if record.family == family])}"
            for family, count in Counter(record.family for record in diverged).most_common()
        ]
        section.lines.append(f"Diverged (a loss or score that is no number, or exploded): {listed(parts)}.")
    failed = [record for record in outcome.records if record.reason in (Reason.OOM, Reason.ERROR)]
    for said, count in Counter(record.error or "no message" for record in failed).most_common(SHOWN_ERRORS):
        first = next(record for record in failed if (record.error or "no message") == said)
        section.lines.append(f"{_counted(count, 'trial')} failed with: {said} (the first: {first.name}).")
    interrupted = sum(record.reason == Reason.INTERRUPTED for record in outcome.records)
    if interrupted:
        section.lines.append(f"{_counted(interrupted, 'trial')} interrupted.")
    refused = outcome.notes.get("refused") or {}
    for why, count in sorted(refused.items(), key=lambda item: -item[1])[:SHOWN_ERRORS]:
        section.lines.append(f"{_counted(count, 'configuration')} refused before training: {why}.")
    if outcome.notes.get("duplicates"):
        section.lines.append(
            f"{_counted(outcome.notes['duplicates'], 'configuration')} drawn again, the same as an earlier "
            "trial's, and "
            "not trained twice."
        )
    return section


def _from_rate(records: Sequence[Record]) -> str:
    rates = [record.config["optimizer"].get("lr") for record in records]
    known = [rate for rate in rates if isinstance(rate, int | float)]
    return f" from learning rate {naming.short(min(known))} on" if known else ""


def _cost_sentences(findings: Findings) -> list[str]:
    winner = findings.outcome.winner
    assert winner is not None
    parts = _prices(winner)
    lines = [f"The winner costs: {listed(parts)}."] if parts else []
    lines += [_cheaper_sentence(each) for each in _distinct(findings.cheaper)]
    return lines


def _by_trial(several: Sequence[Cheaper]) -> dict[int, list[Cheaper]]:
    found: dict[int, list[Cheaper]] = defaultdict(list)
    for each in several:
        found[each.record.number].append(each)
    return found


def _distinct(several: Sequence[Cheaper]) -> list[Cheaper]:
    """The first word on each configuration, two at most."""
    return [each[0] for each in _by_trial(several).values()][:2]


def _cheaper_sentence(each: Cheaper) -> str:
    lost = each.lost
    far = f"{_fixed(abs(lost.mean), _places(lost))} {'worse' if lost.mean >= 0 else 'better'}"
    sure = (
        " on one seed each"
        if lost.count < 2
        else f" on the same {lost.count} seeds (the winner's lead: {_bounds(lost)})"
    )
    return (
        f"A cheaper one: {naming.strategy(each.record.config, each.record.params)} (trial {each.record.number}) takes "
        f"{_percent(each.part)} of the "
        f"winner's {_PRICE[each.cost]} and is {far}{sure}."
    )


_PRICE = {
    "cost/epoch_seconds": "seconds an epoch",
    "cost/latency_sample_seconds": "latency",
    "cost/peak_memory_bytes": "memory",
    "cost/model_bytes": "size",
    "cost/parameters": "parameters",
}


def _prices(record: Record) -> list[str]:
    said = {
        "cost/epoch_seconds": "{} an epoch",
        "cost/latency_sample_seconds": "{} to predict one sample",
        "cost/peak_memory_bytes": "{} of memory in training",
        "cost/model_bytes": "a model of {}",
        "cost/parameters": "{} parameters",
    }
    return [
        words.format(naming.cost(key, record.cost[key]))
        for key, words in said.items()
        if math.isfinite(record.cost.get(key, math.nan))
    ]


def _cost_section(findings: Findings) -> Section:
    outcome = findings.outcome
    section = Section("cost", "Accuracy against cost" if "acc" in outcome.objective.metric else "Score against cost")
    winner = outcome.winner
    if winner is None or not winner.cost or outcome.is_noise:
        return section
    rows = [_cost_row("winner", winner, Estimate(0.0, 0.0, 0.0, 1))]
    for number, several in _by_trial(findings.cheaper).items():
        words = listed([_PRICE[each.cost] for each in several])
        rows.append(_cost_row(f"cheaper in {words}", outcome.records[number], several[0].lost))
    section.lines.append(
        "As measured in the trial itself, during the search; MLflow shows the same figures, and a final training "
        "measures its own. Seconds an epoch are the trial's share where several were trained in one step; memory is "
        "what training added to the process, or all of it on a GPU."
    )
    head = ("", "strategy", "loses", "an epoch", "one sample", "memory", "size", "parameters")
    return Section(section.key, section.title, section.lines, Table(head, tuple(rows)))


def _cost_row(what: str, record: Record, lost: Estimate) -> tuple[str, ...]:
    prices = [naming.cost(key, record.cost[key]) if key in record.cost else "" for key in costs.COSTS]
    return what, f"{naming.strategy(record.config, record.params)} (trial {record.number})", _cell(lost), *prices


# Words and numbers.


def label(parameter: str) -> str:
    """What a parameter is called: ``BatchNorm``; its own name where it has no other."""
    return NAMES.get(parameter, parameter)


def _option(option: Any) -> str:
    return (
        {True: "with", False: "without", None: "none"}.get(option, f"{option}")
        if isinstance(option, bool | None)
        else f"{option}"
    )


def _number(value: float) -> str:
    return f"{value:g}" if float(value).is_integer() and abs(value) < 1e6 else naming.short(value)


def score(value: float | None) -> str:
    """A score as it is written."""
    return "none" if value is None else f"{value:.4g}"


def _estimate(estimate: Estimate) -> str:
    if estimate.count < 2:
        return f"{estimate.mean:.4g} (one seed)"
    return f"{_fixed(estimate.mean, _places(estimate))} (95 % interval {_bounds(estimate)}, {estimate.count} seeds)"


def _bounds(estimate: Estimate) -> str:
    if not math.isfinite(estimate.low) or not math.isfinite(estimate.high):
        return "one value"
    places = _places(estimate)
    return f"{_fixed(estimate.low, places)} to {_fixed(estimate.high, places)}"


def difference(estimate: Estimate) -> str:
    """A difference with its interval: +0.0034 (0.0008 to 0.0060)."""
    sign = "" if estimate.mean < 0 else "+"
    return f"{sign}{_fixed(estimate.mean, _places(estimate))} ({_bounds(estimate)})"


def _places(estimate: Estimate) -> int | None:
    """As many decimal places as show two digits of the interval's width; None where it has none."""
    half = (estimate.high - estimate.low) / 2
    if not math.isfinite(half) or half <= 0:
        return None
    return min(8, max(0, 1 - math.floor(math.log10(half))))


def _fixed(value: float, places: int | None) -> str:
    text = f"{value:.2g}" if places is None else f"{value:.{places}f}"
    return text.replace("-", MINUS)


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if not math.isfinite(estimate.low):
        return f"{estimate.mean:.2g} (one seed)".replace("-", MINUS)
    if estimate.low == estimate.high == 0:
        return "0"
    return difference(estimate)


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(parts: Sequence[str]) -> str:
    """One, two and three."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
