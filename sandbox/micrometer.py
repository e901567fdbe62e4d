"""Micrometer: counters, timers and gauges with the names and text a Spring Boot service exports."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Callable, Optional

CONTENT_TYPE = "text/plain; version=0.0.4"
Labels = tuple[tuple[str, str], ...]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _sample(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels)
    return f"{name}{{{inside}}} {float(value)!r}" if inside else f"{name} {float(value)!r}"


@dataclass
class _Timer:
    count: int = 0
    total: float = 0.0
    peak: float = 0.0


@dataclass
class Registry:
    """Meters by name. Thread-safe. `reset()` is what a restart of the service does to them."""

    common: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._gauges: dict[tuple[str, Labels], Callable[[], float]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all counts."""
        with self._lock:
            self._counters: dict[str, dict[Labels, float]] = {}
            self._timers: dict[str, dict[Labels, _Timer]] = {}

    def _labels(self, labels: Mapping[str, str]) -> Labels:
        return tuple(sorted({**self.common, **labels}.items()))

    def count(self, name: str, **labels: str) -> None:
        """Add one to the counter `name` (without `_total`)."""
        with self._lock:
            family = self._counters.setdefault(name, {})
            key = self._labels(labels)
            family[key] = family.get(key, 0) + 1

    def time(self, name: str, seconds: float, **labels: str) -> None:
        """Add an observation to the timer `name` (without `_seconds`)."""
        with self._lock:
            timer = self._timers.setdefault(name, {}).setdefault(self._labels(labels), _Timer())
            timer.count += 1
            timer.total += seconds
            timer.peak = max(timer.peak, seconds)

    def gauge(self, name: str, read: Callable[[], float], **labels: str) -> None:
        """Export what `read()` returns at each scrape."""
        self._gauges[name, self._labels(labels)] = read

    def value(self, name: str, **labels: str) -> float:
        """A counter's value, 0 when it never counted."""
        return self._counters.get(name, {}).get(self._labels(labels), 0)

    def render(self) -> str:
        """The exposition, text format 0.0.4."""
        with self._lock:
            lines = [*self._counter_lines(), *self._timer_lines(), *self._gauge_lines()]
        return "\n".join(lines) + "\n"

    def _counter_lines(self) -> list[str]:
        lines = []
        for name, series in sorted(self._counters.items()):
            lines += [f"# HELP {name}_total  ", f"# TYPE {name}_total counter"]
            lines += [_sample(f"{name}_total", labels, n) for labels, n in series.items()]
        return lines

    def _timer_lines(self) -> list[str]:
        lines = []
        for name, series in sorted(self._timers.items()):
            base = f"{name}_seconds"
            lines += [f"# HELP {base}  ", f"# TYPE {base} summary"]
            for labels, timer in series.items():
                lines.append(_sample(f"{base}_count", labels, timer.count))
                lines.append(_sample(f"{base}_sum", labels, timer.total))
            lines += [f"# HELP {base}_max  ", f"# TYPE {base}_max gauge"]
            lines += [_sample(f"{base}_max", labels, t.peak) for labels, t in series.items()]
        return lines

    def _gauge_lines(self) -> list[str]:
        lines, last = [], ""
        for (name, labels), read in sorted(self._gauges.items(), key=lambda item: item[0]):
            if name != last:
                lines += [f"# HELP {name}  ", f"# TYPE {name} gauge"]
            lines.append(_sample(name, labels, read()))
            last = name
        return lines


class ServiceMetrics:
    """What the payment services count, in the names of one of the two families."""

    def __init__(self, application: str, family: str = "micrometer") -> None:
        self.alternative = family == "alternative"
        self.registry = Registry({} if self.alternative else {"application": application})
        self._add_process_gauges()

    def _add_process_gauges(self) -> None:
        started, gauge = time.time(), self.registry.gauge
        ram = 512 * 1024 * 1024
        gauge("jvm_memory_used_bytes", _resident_bytes, area="heap", id="G1 Eden Space")
        gauge("jvm_memory_max_bytes", lambda: ram, area="heap", id="G1 Eden Space")
        gauge("jvm_threads_live_threads", threading.active_count)
        gauge("process_cpu_usage", lambda: time.process_time() / (time.time() - started + 1))
        gauge("system_cpu_usage", lambda: 0.1)
        gauge("process_uptime_seconds", lambda: time.time() - started)
        gauge("process_start_time_seconds", lambda: started)
        gauge("process_files_open_files", lambda: 64)

    def authentication(self, client: str, ok: bool) -> None:
        """One attempt to log in."""
        if not self.alternative:
            outcome = "true" if ok else "false"
            self.registry.count("payment_authentication_attempts", clientId=client, success=outcome)
            return
        verdict = "success" if ok else "failures"
        self.registry.count("payment_authentication_attempts", client_id=client)
        self.registry.count(f"payment_authentication_{verdict}", client_id=client)

    def generated(self, client: str, seconds: float) -> None:
        """One token minted."""
        label = {"client_id" if self.alternative else "clientId": client}
        self.registry.count("payment_token_generation_count", **label)
        self.registry.time("payment_token_generation_time", seconds)

    def validated(self, client: str, failure: Optional[str], seconds: float) -> None:
        """One token judged; `failure` is the reason, None means valid."""
        self.registry.time("payment_token_validation_time", seconds)
        if not self.alternative:
            valid = "true" if failure is None else "false"
            self.registry.count("payment_token_validation_count", clientId=client, valid=valid)
            return
        self.registry.count("payment_token_validation_attempts")
        if failure is not None:
            self.registry.count("payment_token_validation_failures", failure_type=failure)

    def vault(self, operation: str, client: str, ok: bool) -> None:
        """One question to Conjur."""
        outcome = "true" if ok else "false"
        self.registry.count("payment_conjur_operations", operation=operation, success=outcome)
        if self.alternative:
            self.registry.count("payment_credential_access", client_id=client)

    def rotation(self, client: str, status: str) -> None:
        """One step of a rotation."""
        self.registry.count("payment_credential_rotation", clientId=client, status=status)

    def request(self, uri: str, method: str, status: int, *, seconds: float) -> None:
        """One HTTP request answered."""
        self.registry.count("payment_api_requests", endpoint=uri, method=method, status=str(status))
        self.registry.time(
            "http_server_requests",
            seconds,
            uri=uri,
            method=method,
            status=str(status),
            outcome=_outcome(status),
            exception="None",
        )


def _outcome(status: int) -> str:
    names = {2: "SUCCESS", 3: "REDIRECTION", 4: "CLIENT_ERROR", 5: "SERVER_ERROR"}
    return names.get(status // 100, "UNKNOWN")


def _resident_bytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
