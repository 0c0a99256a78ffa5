"""What is going on in the process, as `/status`, the drain's summary and one sentence for people tell it?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, Protocol, TypedDict, cast

from drainproxy import __version__, compiled
from drainproxy.config.loading import effective
from drainproxy.config.values import show_duration
from drainproxy.drain.advice import Drain, Times, hint
from drainproxy.drain.announcement import Occasion
from drainproxy.drain.handover import Attempt
from drainproxy.drain.ledger import Ended, Kind, Tally
from drainproxy.drain.phase import Outcome, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drainproxy.config.options import Config
    from drainproxy.drain.announcement import Told
    from drainproxy.drain.handover import HandedOver
    from drainproxy.drain.ledger import Ledger, Loss, Work
    from drainproxy.drain.machine import DrainMachine, Finish
    from drainproxy.drain.phase import Trigger
    from drainproxy.drain.schedule import Schedule

MOST_SHOWN = 20
"""Pieces of work that `/status` lists."""
MOST_TARGET = 200
"""Characters of a request's target that it shows."""
MOST_METHOD = 20


@dataclass(frozen=True, slots=True)
class UpstreamView:
    """One route, and what the last look at its app saw. Addresses as a user writes them."""

    listen: str
    address: str
    protocol: str
    reachable: bool
    healthy: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionCounts:
    """Open connections."""

    client: int
    upstream_idle: int
    upstream_busy: int
    handshakes: int = 0
    """TLS clients whose handshake is not over: no connections yet, but each has a place."""


class Process(Protocol):
    """The process, to read only: status, metrics and probes are made from this."""

    config: Config
    machine: DrainMachine
    ledger: Ledger
    handed: HandedOver
    since: float
    """Unix time of the last change of state, seconds."""
    last_drain: Summary | None
    """The last drain that has ended, by any outcome."""
    generation: int
    """1, and one more with each upgrade."""
    upgraded_at: float | None
    """Unix time at which this process took over from another, None if it did not."""
    children: Callable[[], list[dict[str, object]]]
    """The processes of the app under `run`."""
    hold: Callable[[], dict[str, object] | None]
    """Requests that are held by hand: how many, and for how long still."""
    told: dict[Occasion, Told]
    """What became of the last call to other discovery, for each occasion."""

    def now(self) -> float:
        """The clock of machine and ledger, seconds."""

    def wall(self) -> float:
        """Unix time, seconds."""

    def upstreams(self) -> list[UpstreamView]:
        """The routes, at least one."""

    def connections(self) -> ConnectionCounts:
        """Open connections. Brings the byte counts of the meter up to date."""


class LostWork(TypedDict):
    """A piece of work that was lost. Its age is that at its end, seconds."""

    kind: str
    method: str
    target: str
    age_s: float
    client: str
    client_left: bool
    trace_id: NotRequired[str]


class DrainBlock(TypedDict):
    """`drain` in `/status`. Times are seconds, `started_at` unix time; what has passed reads 0."""

    trigger: str
    started_at: float
    elapsed_s: float
    deadline_in_s: float
    floor_in_s: float
    arrivals: int
    late: int
    last_arrival_s: float | None
    completed: int
    aborted: int
    """Everything that did not end well: the next four, what a time limit ended, and what was refused."""
    departed: int
    """Its client left."""
    broken: int
    """The app broke it off, or was not there."""
    lost: int
    """It failed after the end of the drain, when the app was allowed to stop."""
    lost_work: list[LostWork]
    """The oldest five of it."""
    cut_total: int
    """The deadline ended it."""
    cut: list[LostWork]
    """The oldest five of it."""
    handed_over: int
    """Siblings got it instead of the app."""
    released: bool
    """Ready siblings have answered: new requests go there, and the app may stop when nothing is in flight in it."""
    let_go_s: float | None
    """When all who waited were told that the app may stop, if that was before the end of the drain."""
    successor: list[str]
    """Who has answered last at the successor, a route each; empty before, and without one."""
    outcome: str | None
    advice: str | None
    """What the numbers of a drain that has ended call for, on one line."""


class Summary(DrainBlock):
    """A drain that has ended: what `/drain` answers, and what the log and the termination message say."""

    why: str
    told: dict[str, object] | None
    """What became of `--on-drain`; None: nobody was to be told, or the drain ended before."""
    times: dict[str, float]
    """The options that decided how it went, seconds by name: each summary can be read without the others."""


def status(process: Process) -> dict[str, object]:
    """The `/status` document. With several routes, `routes` tells of each; `upstream` is the first."""
    machine, ledger, now = process.machine, process.ledger, process.now()
    upstreams, connections = process.upstreams(), process.connections()
    document: dict[str, object] = {
        "version": __version__,
        "compiled": compiled(),
        "pid": os.getpid(),
        "generation": process.generation,
        "upgraded_at": None if process.upgraded_at is None else round(process.upgraded_at, 3),
        "state": machine.state.value,
        "phase": machine.phase.value,
        "since": round(process.since, 3),
        "upstream": _upstream(upstreams[0]),
        "in_flight": in_flight(ledger),
        "connections": {
            "client": connections.client,
            "upstream_idle": connections.upstream_idle,
            "upstream_busy": connections.upstream_busy,
            "handshakes": connections.handshakes,
        },
        "handed_over": handed_over(process.handed),
        "oldest": [_work(work, now) for work in ledger.oldest(MOST_SHOWN)],
        "drain": drain_block(process),
        "told": {occasion.value: _told(told) for occasion, told in process.told.items()},
        "config": effective(process.config),
    }
    children, hold = process.children(), process.hold()
    if children:
        document["children"] = children
    if hold is not None:
        document["hold"] = hold
    if len(upstreams) > 1:
        document["routes"] = [_route(view) for view in upstreams]
    return document


def in_flight(ledger: Ledger) -> dict[str, int]:
    """Open work by kind, all kinds."""
    count = ledger.count()
    return {kind.value: count[kind] for kind in Kind}


def handed_over(handed: HandedOver) -> dict[str, int]:
    """Attempts to hand a request to a sibling since the start of the process, by what became of them."""
    return {
        attempt.value: sum(count for (_, became), count in handed.counts.items() if became is attempt)
        for attempt in Attempt
    }


def drain_block(process: Process) -> DrainBlock | None:
    """The drain that runs or is over; after a resume the one that was called off; None before the first."""
    machine = process.machine
    if machine.schedule is None or machine.trigger is None:
        last = process.last_drain
        if last is None:
            return None
        return cast("DrainBlock", {key: value for key, value in last.items() if key in DrainBlock.__annotations__})
    end_at = process.now() if machine.drained_at is None else machine.drained_at
    elapsed_s = end_at - machine.schedule.started_at
    return _block(process, machine.trigger, machine.outcome, machine.schedule, machine.schedule.started_at, elapsed_s)


def drain_summary(process: Process, finish: Finish) -> Summary:
    """What to tell of the drain that ends now. Call it before the ledger's `end`."""
    schedule = process.machine.schedule
    started_at = process.now() - finish.duration_s if schedule is None else schedule.started_at
    block = _block(process, finish.trigger, finish.outcome, schedule, started_at, finish.duration_s)
    told = process.told.get(Occasion.DRAIN)
    return {
        **block,
        "why": finish.why,
        "told": None if told is None else _told(told),
        "times": Times.of(process.config).by_option(),
    }


def _told(told: Told) -> dict[str, object]:
    return {"result": told.result, "attempts": told.attempts, "took_s": round(told.took_s, 3), "error": told.error}


def _advice(block: DrainBlock, after_end: int, config: Config) -> str | None:
    """The hint for a drain that ended; one that was called off tells nothing."""
    outcome = block["outcome"]
    if outcome is None or outcome == Outcome.RESUMED.value:
        return None
    return hint(
        Drain(
            times=Times.of(config),
            outcome=outcome,
            elapsed_s=block["elapsed_s"],
            late=block["late"],
            released=block["let_go_s"] is not None,
            last_arrival_s=block["last_arrival_s"],
            arrivals=block["arrivals"],
            cut=block["cut_total"],
            broken=block["broken"],
            after_end=after_end,
        )
    )


def _block(
    process: Process,
    trigger: Trigger,
    outcome: Outcome | None,
    schedule: Schedule | None,
    started_at: float,
    elapsed_s: float,
) -> DrainBlock:
    now, machine = process.now(), process.machine
    tally = process.ledger.tally or Tally()
    last = tally.last_arrival_at
    block: DrainBlock = {
        "trigger": trigger.value,
        "started_at": round(process.wall() - (now - started_at), 3),
        "elapsed_s": round(elapsed_s, 3),
        "deadline_in_s": _left(schedule.deadline_at if schedule else now, now),
        "floor_in_s": _left(schedule.floor_at if schedule else now, now),
        "arrivals": tally.arrivals,
        "late": tally.late.total(),
        "last_arrival_s": None if last is None else round(last - started_at, 3),
        "completed": tally.completed.total(),
        "aborted": tally.aborted.total(),
        "departed": tally.count(Ended.DEPARTED),
        "broken": tally.count(Ended.BROKEN),
        "lost": tally.lost.count,
        "lost_work": [_loss(loss) for loss in tally.lost.oldest],
        "cut_total": tally.cut.count,
        "cut": [_loss(loss) for loss in tally.cut.oldest],
        "handed_over": tally.handed_over,
        "released": machine.diverting,
        "let_go_s": None if machine.let_go_at is None else round(machine.let_go_at - started_at, 3),
        "successor": [] if machine.release is None else [answer.value for answer in machine.release.answers()],
        "outcome": outcome.value if outcome else None,
        "advice": None,
    }
    return {**block, "advice": _advice(block, tally.late[Phase.DRAINED], process.config)}


def _left(at: float, now: float) -> float:
    return round(max(0.0, at - now), 3)


def _upstream(first: UpstreamView) -> dict[str, object]:
    return {"address": first.address, "healthy": first.healthy, "reason": first.reason}


def _route(view: UpstreamView) -> dict[str, object]:
    return {
        "listen": view.listen,
        "upstream": view.address,
        "protocol": view.protocol,
        "reachable": view.reachable,
        "healthy": view.healthy,
        "reason": view.reason,
    }


def _loss(loss: Loss) -> LostWork:
    shown: LostWork = {
        "kind": loss.kind.value,
        "method": loss.method[:MOST_METHOD],
        "target": shown_target(loss.target),
        "age_s": round(loss.age_s, 3),
        "client": loss.client,
        "client_left": loss.client_left,
    }
    if loss.trace:
        shown["trace_id"] = loss.trace
    return shown


def _work(work: Work, now: float) -> dict[str, object]:
    shown: dict[str, object] = {
        "kind": work.kind.value,
        "method": work.method[:MOST_METHOD],
        "target": shown_target(work.target),
        "age_s": round(now - work.started_at, 3),
        "client": work.client,
        "client_left": work.client_left,
    }
    if work.handed_over:
        shown["handed_over"] = True
    return {**shown, "trace_id": work.trace} if work.trace else shown


def shown_target(target: str) -> str:
    """A request's target without its query, which may hold a secret: `/status` can be read without a token."""
    path, query, _ = target.partition("?")
    cut = path if len(path) <= MOST_TARGET else path[:MOST_TARGET] + "…"
    return cut + "?…" if query else cut


_HOW = {
    Outcome.CLEAN.value: "drained cleanly",
    Outcome.STILL_ARRIVING.value: "drained while requests still arrived",
    Outcome.FORCED.value: "drain forced at the deadline",
    Outcome.RESUMED.value: "drain called off",
}


def sentence(summary: Summary) -> str:
    """The summary on one line."""
    last = summary["last_arrival_s"]
    arrivals = "nothing arrived" if last is None else f"last arrival {brief(last)} after the trigger"
    counts = [
        f"{summary['completed']} completed",
        f"{summary['cut_total']} cut",
        *([f"{summary['departed']} left by their clients"] if summary["departed"] else []),
        *([f"{summary['broken']} broken off by the app"] if summary["broken"] else []),
        *([f"{summary['lost']} lost after the end"] if summary["lost"] else []),
        *([f"{summary['handed_over']} handed over"] if summary["handed_over"] else []),
        f"{summary['late']} late",
    ]
    return (
        f"{_HOW[summary['outcome'] or '']} after {brief(summary['elapsed_s'])} ({summary['why']}): "
        f"{', '.join(counts)}, {arrivals}; trigger {summary['trigger']}"
    )


def loss_lines(drain: DrainBlock) -> Iterator[str]:
    """What was cut or lost, a line each, and how many more. Printable, whatever clients have sent."""
    yield from _named("cut", drain["cut"], drain["cut_total"])
    yield from _named("lost after the end", drain["lost_work"], drain["lost"])


def _named(fate: str, oldest: list[LostWork], count: int) -> Iterator[str]:
    for work in oldest:
        yield f"{fate}: {_line(work)}"
    if count > len(oldest):
        yield f"{fate}: {count - len(oldest)} more"


def _line(work: LostWork) -> str:
    request = f"{work['method']} {work['target']}" if work["method"] else work["kind"]
    left = ", which had left" if work["client_left"] else ""
    line = f"{request} after {brief(work['age_s'])}, from {work['client']}{left}"
    return "".join(character if character.isprintable() else "?" for character in line)


def brief(seconds: float) -> str:
    """A duration for people: tenths below a minute, else minutes and seconds."""
    return f"{seconds:.1f}s" if seconds < 60 else show_duration(round(seconds))  # noqa: PLR2004 - a minute
