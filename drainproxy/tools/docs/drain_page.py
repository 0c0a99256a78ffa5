"""How does a drain work? docs/drain.md, drawn from the tables that the machine follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.config.options import MARGIN_S, Config
from drainproxy.config.values import show_duration
from drainproxy.drain import phase as phases
from drainproxy.drain.machine import MOST_SCRAPE_WAIT_S
from drainproxy.drain.phase import DRAINING, LATE, NEXT, Outcome, Phase, State, Trigger
from drainproxy.drain.schedule import FORCED_EXIT_S, HURRY_CAP_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TRANSITIONS = {
    (Phase.SERVING, Phase.PROPAGATING): "trigger",
    (Phase.PROPAGATING, Phase.FINISHING): "floor",
    (Phase.FINISHING, Phase.DRAINED): "nothing in flight, and quiet",
    (Phase.FINISHING, Phase.FORCING): "deadline",
    (Phase.FORCING, Phase.DRAINED): "everything is cut",
    (Phase.PROPAGATING, Phase.SERVING): "resume",
    (Phase.FINISHING, Phase.SERVING): "resume",
    (Phase.DRAINED, Phase.SERVING): "resume",
}
"""Why one phase follows another. A test holds the pairs to `phase.NEXT`."""

TEMPLATE = """<!-- Made by `python -m drainproxy.tools.docs` from drainproxy/tools/docs/drain_page.py. Edits here are lost. -->

# How a drain works

For operators, and for developers who change `drainproxy/drain/`. What to do when a drain goes wrong is in
[operations](operations.md). The [glossary](glossary.md) defines the terms.

## The phases

```mermaid
stateDiagram-v2
    direction LR
    [*] --> serving
{arrows}    drained --> [*]: after SIGTERM
```

{meanings}
An arrival is *late* in {late}: the floor has passed, and the sender has still not learned that this Pod is ending.

`/status` and `drainproxy_state` say it in one word: {states}. The state is `draining` in {draining}.

## What each phase means on the wire

| | `serving` | `propagating` | `finishing` | `forcing` | `drained` |
|---|---|---|---|---|---|
| `/readyz` | 200 if the app is healthy | 503 ¹ | 503 ¹ | 503 ¹ | 503 ¹ |
| `/livez` | 200 | 200 | 200 | 200 | 200 |
| new connections, new requests | served | served | served, counted late | 503 and `Retry-After` | served while the app runs, else 503 and `Retry-After` |
| HTTP/1 | keep-alive | every response says `Connection: close`; idle connections stay open | idle connections are closed, spread over time | no response yet: 503; otherwise cut | as in finishing |
| HTTP/2, gRPC | relayed | relayed | GOAWAY, streams finish, last GOAWAY, close | RST_STREAM and GOAWAY | as in finishing |
| WebSocket | relayed | relayed | Close 1001 between two frames, spread over time | Close 1001, cut | - |
| TCP | relayed | relayed | the drain waits for it | cut | - |

¹ From the start of the drain, by default. `--readiness-on-drain` can delay this, or keep readiness until the app may be
stopped. In forcing and drained it is always 503. Until `/readyz` fails, the app's health decides, as in `serving`.

*Cut* means that the client notices: a body with a length or with chunks stays incomplete; a body that ends with the
connection is ended by a reset.

## The times

All times count from the first trigger. None of them moves to a later moment during the drain. With the defaults:

| time | what happens |
|---|---|
| {floor} | the floor (`propagation-delay`): until then everything is served |
| {quiet} | if nothing is in flight and no request has arrived since the floor (`quiet-period`): the last call, then drained, `clean` |
| {limit} | `quiet-limit` after the floor: from now on the drain ends as soon as nothing is in flight, `still-arriving` |
| {deadline} | the deadline (grace-period - app-stop-time - {margin}, or `drain-timeout`): work in flight is cut, `forced` |
| {grace} | `grace-period`: the kubelet kills all containers of the Pod |

With a [successor](successor.md), the app may stop before the floor: new requests then go to other Pods of the workload.

**The last call.** When nothing is in flight and traffic has stopped, every connection that was not asked to leave yet is
asked now. An HTTP/2 client confirms it by answering a PING. Requests that it sent before are served first. drainproxy
waits for the answer for one `quiet-period`, but never beyond the deadline.

**What a drain waits for** is work: HTTP requests until the last byte of both bodies, open HTTP/2 streams, tunnels, and TCP
connections. It does not wait for idle connections, health checks by the kubelet or by load balancers, scrapes, or the
drain call itself.

**A client that has closed its sending side (FIN)** still counts as work. The app works on the request, and other systems
may need its result. `/status` shows such work as `client_left`. If the client does not take the answer, the request counts
as `departed`, and the access log says `completed: false`. With `departed-clients cut`, the request ends with the FIN and
the connection to the app is closed, as nginx does. In a tunnel, a FIN only ends one direction.

## How a drain starts and ends

Triggers: {triggers}. The first trigger starts the drain. All others join it: they have the same deadline and get the same
result at the same time. A second SIGTERM, or SIGINT (Ctrl-C), skips the floor and the quiet period and gives work in flight
{hurry} more. Another SIGINT, or SIGQUIT, exits at once.

Outcomes: {outcomes}.

- `clean`: traffic had stopped, and nothing was cut.
- `still-arriving`: nothing was cut, but a request, or part of one, came within the last `quiet-period`. The drain ended
  because `quiet-limit` or the deadline had passed, or by a second signal. These requests were served, but their senders
  will send more, to a Pod that is gone.
- `forced`: the deadline had passed, and work was cut.
- `resumed`: the drain was called off. If it had already ended, it is counted with its first outcome and again as resumed.

After SIGTERM and the drain, the process exits when the app is gone and nothing is in flight: at the latest `app-stop-time`
after the drain, or {forced_exit} after a forced one. The port stays open until then.

After some drains the process stays for one more scrape (`final-scrape-wait auto`), so that Prometheus sees the last numbers.
It does so if Prometheus has scraped it before, and if there is something to report: the outcome is not `clean`, or work was
late or failed. It waits for the time between two scrapes, {scrape} at most, and only within the grace period.

## How a drain is called off

`DELETE /drain`, `POST /resume` and `drainproxy resume` call a drain off. This is not possible after SIGTERM (409). A drain
that a call to `/drain` started is also called off by itself once it is drained (`resume-after auto`), if

- the app has gone away and come back: its container was restarted, and the Pod stays; or
- the grace period has passed since the trigger, and the app is still there.
"""  # noqa: E501 - a row of a table is one line


def page() -> str:
    """docs/drain.md."""
    config = Config()
    floor_s = config.propagation_delay_s
    return TEMPLATE.format(
        arrows="".join(_arrows()),
        meanings="".join(f"- `{phase.value}`: {meaning}\n" for phase, meaning in meanings()),
        late=_listed(phase.value for phase in Phase if phase in LATE),
        draining=_listed(phase.value for phase in Phase if phase in DRAINING),
        states=_listed(state.value for state in State),
        triggers=_listed(trigger.value for trigger in Trigger),
        outcomes=_listed(outcome.value for outcome in Outcome),
        floor=show_duration(floor_s),
        quiet=show_duration(floor_s + config.quiet_period_s),
        limit=show_duration(floor_s + config.quiet_limit_s),
        deadline=show_duration(config.budget_s),
        grace=show_duration(config.grace_period_s),
        margin=show_duration(MARGIN_S),
        hurry=show_duration(HURRY_CAP_S),
        scrape=show_duration(MOST_SCRAPE_WAIT_S),
        forced_exit=show_duration(FORCED_EXIT_S),
    )


def meanings() -> Iterator[tuple[Phase, str]]:
    """What `drain.phase` says of each phase, from the list in its docstring."""
    for line in (phases.__doc__ or "").splitlines():
        name, _, meaning = line.partition(" ")
        if name in Phase.__members__:
            yield Phase[name], meaning.strip()


def _arrows() -> Iterator[str]:
    order = list(Phase)
    for phase in Phase:
        for other in sorted(NEXT[phase], key=order.index, reverse=True):
            yield f"    {phase.value} --> {other.value}: {TRANSITIONS[phase, other]}\n"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
