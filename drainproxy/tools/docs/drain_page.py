"""How does a drain go? docs/drain.md, drawn from the tables that the machine follows."""

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
    (Phase.FINISHING, Phase.DRAINED): "idle and quiet",
    (Phase.FINISHING, Phase.FORCING): "deadline",
    (Phase.FORCING, Phase.DRAINED): "all is cut",
    (Phase.PROPAGATING, Phase.SERVING): "resume",
    (Phase.FINISHING, Phase.SERVING): "resume",
    (Phase.DRAINED, Phase.SERVING): "resume",
}
"""Why one phase follows another. A test holds the pairs to `phase.NEXT`."""

TEMPLATE = """<!-- Made by `python -m drainproxy.tools.docs` from drainproxy/tools/docs/drain_page.py. Edits here are lost. -->

# How a drain goes

For who is on call, and for who changes `drainproxy/drain/`. What to do when it goes wrong is in
[operations](operations.md).

## The phases

```mermaid
stateDiagram-v2
    direction LR
    [*] --> serving
{arrows}    drained --> [*]: after SIGTERM
```

{meanings}
An arrival is *late* in {late}: the floor has passed, and someone still has not learned that this Pod goes.

`/status` and `drainproxy_state` say it in one word: {states}. It is `draining` in {draining}.

## What each phase means on the wire

| | `serving` | `propagating` | `finishing` | `forcing` | `drained` |
|---|---|---|---|---|---|
| `/readyz` | 200 if the app is well | 503 ¹ | 503 ¹ | 503 ¹ | 503 ¹ |
| `/livez` | 200 | 200 | 200 | 200 | 200 |
| new connections, new requests | served | served | served, counted late | 503 and `Retry-After` | served while the app lives, else 503 and `Retry-After` |
| HTTP/1 | keep-alive | every response says `Connection: close`; idle connections stay open | idle connections are closed, spread | no response yet: 503; else cut so that the client notices | as finishing |
| HTTP/2, gRPC | relayed | relayed | GOAWAY, streams finish, last GOAWAY, close | RST_STREAM and GOAWAY | as finishing |
| WebSocket | relayed | relayed | Close 1001 between two frames, spread | Close 1001, cut | - |
| TCP | relayed | relayed | waited for | cut | - |

¹ At once by default. `--readiness-on-drain` delays it, or holds readiness until the app may be stopped (forcing and drained
are 503 in any case); until then the app's health decides as before.

*Cut so that the client notices:* a body with a length or with chunks is left without its end; a body that ends with the
connection is ended by a reset.

## The times

All are counted from the first trigger, and none of them ever moves later. With the defaults:

| at | what |
|---|---|
| {floor} | the floor (`propagation-delay`): until then everything is served |
| {quiet} | with nothing in flight and no arrival since the floor (`quiet-period`): the last call, then drained, `clean` |
| {limit} | `quiet-limit` after the floor: from then on the first moment with nothing in flight ends it, `still-arriving` |
| {deadline} | the deadline (grace-period - app-stop-time - {margin}, or `drain-timeout`): what is left is cut, `forced` |
| {grace} | `grace-period`: the kubelet kills whatever still runs |

*The last call:* when nothing is in flight and traffic has stopped, every connection that was not asked to go yet is asked now.
An HTTP/2 client says when it knows, by answering a PING; what it sent before that is served first. Its answer is awaited for
one `quiet-period`, and never beyond the deadline.

What counts is work: HTTP exchanges until the last byte of both bodies, open HTTP/2 streams, tunnels, TCP connections. Idle
connections, health checks by the kubelet and by load balancers, scrapes and the drain call itself never hold a drain.

*A client that has sent FIN* still holds the drain: its app works on the request, and to kill it there may lose what others
rely on. `/status` shows such work as `client_left`. If the answer does not arrive any more, it counts as `departed`, and the
access log says `completed: false`. With `departed-clients cut` the exchange ends with the FIN, and the app's connection is
closed, as nginx does. In a tunnel a FIN ends one direction, as ever.

## Who begins it, who joins, how it ends

Triggers: {triggers}. The first begins the drain, every other one joins it: same deadline, same result, at the same time.
A second SIGTERM, or SIGINT (Ctrl-C), skips floor and quiet and leaves {hurry} to what is in flight. SIGINT again, or SIGQUIT,
exits at once.

Outcomes: {outcomes}. It is `still-arriving` if a request came within the last `quiet-period`, or part of one, and nothing had to
be cut: `quiet-limit` or the deadline has passed, or a second signal came. Those requests are served; who sent them will send
more, to a Pod that is gone. A drain that is called off after it was drained is counted as what it was, and then as `resumed`.

After SIGTERM and the drain the process exits when the app is gone and nothing is in flight, `app-stop-time` later at most,
{forced_exit} after a forced drain. The port stays open until then.
After a drain that has something to tell the process stays for one more scrape, if somebody scrapes (`final-scrape-wait auto`):
for the time between two scrapes, {scrape} at most, and inside the grace period. There is something to tell if the outcome is
not `clean`, or if work came late or did not end well. All other drains wait for nobody.

## The way back

`DELETE /drain`, `POST /resume` and `drainproxy resume` call a drain off, unless SIGTERM was received (409). A drain that
`/drain` began calls itself off once it is drained (`resume-after auto`) when

- the app went away and came back: its container was restarted, the Pod stays; or
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
