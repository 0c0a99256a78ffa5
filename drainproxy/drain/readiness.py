"""Should traffic come here? The one answer behind `/readyz` and the status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.drain.phase import Phase

if TYPE_CHECKING:
    from drainproxy.config.options import Config
    from drainproxy.drain.machine import DrainMachine


def readiness(machine: DrainMachine, config: Config, now: float, app: str) -> tuple[bool, str]:
    """Ready or not, and why in one line. `app`: what the last health check saw.

    During a drain readiness fails at once, after `readiness-on-drain`, or (hold) not before the app may be stopped:
    kube-proxy falls back to endpoints that are serving and terminating when there are no ready ones. Who asks just
    while the port is handed over is told of the port.
    """
    if machine.handed_over:
        return True, "ready: a new generation serves"
    if machine.phase is not Phase.SERVING or machine.schedule is not None:
        assert machine.schedule is not None, "a drain has a schedule"
        held_until = machine.schedule.started_at + config.readiness_on_drain_s
        if now >= held_until or machine.phase is Phase.FORCING or machine.app_was_let_go:
            return False, f"{machine.state.value}: {machine.phase.value}"
    if not machine.answered_once:
        return False, f"starting: {app}"
    if not machine.healthy:
        return False, f"unready: {app}"
    if machine.gate is not None:
        return False, f"unready: {machine.gate}"
    return True, "ready" if machine.phase is Phase.SERVING else f"ready: readiness is held, {machine.phase.value}"
