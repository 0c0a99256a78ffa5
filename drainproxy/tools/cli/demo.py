"""`drainproxy demo`: a rolling update on this machine, without and with drainproxy."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import signal
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from drainproxy.cli._output import output_option
from drainproxy.errors import ConfigError
from drainproxy.tools.cli._files import opened
from drainproxy.tools.cli._kinds import Rate
from drainproxy.tools.cli._packages import missing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TextIO

    from rich.console import Console

    from drainproxy.tools.cluster.demo import Run, Scene, Stage, Told

    Perform = Callable[[Stage, Callable[[], None]], Awaitable[Run]]
    """One run, watched."""

_INTERRUPTED = 130
NAMES = {"bare": "bare", "sleep": "preStop: sleep", "drainproxy": "drainproxy"}


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit code: 0 requests were lost without drainproxy and none with it; 1 otherwise; 2 bad usage.",
)
@click.option(
    "--app", metavar="CMD", help="Your app instead of the built-in one. It must listen on $PORT (or $(PORT))."
)
@click.option(
    "--path", "paths", multiple=True, help="Path to request, and to use for readiness. Repeatable. [default: /]"
)
@click.option("--rate", type=Rate(), default=40.0, show_default=True, help="Requests per second.")
@click.option("--replicas", default=3, show_default=True, type=click.IntRange(1, 20), help="Number of Pods.")
@click.option("--only", multiple=True, type=click.Choice(list(NAMES)), help="Run only this rollout. Repeatable.")
@click.option(
    "--upgrade",
    is_flag=True,
    help="On one host instead: stop and start an app, restart it with drainproxy, upgrade drainproxy. About 40 s.",
)
@click.option("--html", metavar="FILE", help="Write the table and the picture as one HTML file.")
@click.option("--svg", metavar="FILE", help="Write the picture as an SVG file.")
@output_option()
def command(**options: Any) -> None:
    """Watch a rolling update lose requests, and the same update with drainproxy.

    Runs the same rolling update of three Pods three times under the same traffic: bare, with `preStop: sleep`, and with
    drainproxy. This takes about a minute. The cluster is simulated on this machine: Pods are processes, the Service is
    a TCP balancer that learns of changes late, and a kubelet and a Deployment controller follow Kubernetes' rules. It
    needs no root and no containers, and uses only loopback.
    """
    if options["upgrade"] and options["only"]:
        raise ConfigError(
            "--only", " ".join(options["only"]), "nothing: it chooses rolling updates, and --upgrade shows none"
        )
    try:
        with opened({"--html": options["html"], "--svg": options["svg"]}) as reports:
            good = asyncio.run(_demo(options, reports))
    except asyncio.CancelledError:
        sys.exit(_INTERRUPTED)
    except ImportError as error:
        raise missing(error, "rich") from error
    sys.exit(0 if good else 1)


def _scene(options: dict[str, Any]) -> Scene:
    from drainproxy.tools.cluster.demo import OWN_PATHS, Scene  # noqa: PLC0415 - `--help` must not wait for aiohttp
    from drainproxy.tools.cluster.variants import App  # noqa: PLC0415 - same

    paths = tuple(options["paths"])
    for path in paths:
        if not path.startswith("/"):
            raise ConfigError("--path", path, "a path that starts with /")
    if options["app"]:
        argv = tuple(shlex.split(options["app"]))
        if not argv or shutil.which(argv[0]) is None:
            raise ConfigError("--app", options["app"], "a command whose program can be found")
        paths = paths or ("/",)
        scene = Scene(App(argv, paths[0], {"PORT": "$(APP_PORT)"}), paths, rate=options["rate"])
    else:
        scene = Scene(App(), paths or OWN_PATHS, rate=options["rate"])
    return replace(scene, strategy=replace(scene.strategy, replicas=options["replicas"]))


async def _demo(options: dict[str, Any], reports: dict[str, TextIO]) -> bool:
    from rich.console import Console  # noqa: PLC0415 - only the commands that need rich load it

    from drainproxy.tools.cluster import replaced  # noqa: PLC0415 - same
    from drainproxy.tools.cluster.demo import conclusion, told  # noqa: PLC0415 - same

    me = asyncio.current_task()
    assert me is not None, "a coroutine runs in a task"
    # As Ctrl-C already does: SIGTERM, and a terminal that is closed, unwind, so that no Pod is left behind.
    for signum in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, me.cancel)
    scene = _scene(options)
    out = Console(highlight=False)
    progress = Console(stderr=True, highlight=False) if options["output"] == "json" else out
    if options["upgrade"]:
        runs = await _perform_all(progress, replaced.WAYS, partial(_replacement, scene))
        result = (runs, *replaced.conclusion(runs), replaced.told(scene))
    else:
        names = [NAMES[name] for name in options["only"] or NAMES]
        runs = await _perform_all(progress, names, partial(_rollout, scene))
        result = (runs, *conclusion(runs), told(scene))
    _publish(out, result, options["output"], reports)
    return result[1]


async def _perform_all(console: Console, names: Sequence[str], perform: Perform) -> list[Run]:
    from drainproxy.tools.cluster.demo import Stage  # noqa: PLC0415 - needs aiohttp
    from drainproxy.tools.cluster.demo_view import DemoView  # noqa: PLC0415 - needs rich

    runs = []
    with DemoView(console) as view:
        for name in names:
            stage = Stage(name)
            view.stages.append(stage)
            view.changed()
            runs.append(await perform(stage, view.changed))
    return runs


def _rollout(scene: Scene, stage: Stage, changed: Callable[[], None]) -> Awaitable[Run]:
    from drainproxy.tools.cluster.demo import perform, variants  # noqa: PLC0415 - needs aiohttp

    return perform(variants(scene)[stage.name], scene, stage, changed)


def _replacement(scene: Scene, stage: Stage, changed: Callable[[], None]) -> Awaitable[Run]:
    from drainproxy.tools.cluster.replaced import perform  # noqa: PLC0415 - needs aiohttp

    return perform(scene, stage, changed)


def _publish(out: Console, result: tuple[list[Run], bool, str, Told], output: str, reports: dict[str, TextIO]) -> None:
    from drainproxy.tools.cluster import demo_view  # noqa: PLC0415 - needs rich

    if output == "json":
        sys.stdout.write(json.dumps(demo_view.as_json(*result), indent=2) + "\n")
    else:
        demo_view.print_result(out, *result)
    if "--html" in reports:
        reports["--html"].write(demo_view.page(*result))
    if "--svg" in reports:
        reports["--svg"].write(demo_view.svg(result[0]))
