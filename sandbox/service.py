"""Service: what Payment-EAPI, Payment-SAPI and the rotation service share as Spring Boot apps."""

from __future__ import annotations

import uuid
from typing import Any

from sandbox.clock import jackson_time
from sandbox.micrometer import CONTENT_TYPE, ServiceMetrics
from sandbox.web import Answer, Request, Route, WebServer, json_answer

UP, DOWN, DEGRADED = "UP", "DOWN", "DEGRADED"


class SpringService(WebServer):
    """Health in the services' own layout and in Actuator's, metrics, and error bodies."""

    title = "Payment-Service"
    health_path = "/api/v1/health"

    def __init__(self, *, metrics_family: str = "micrometer", **options: Any) -> None:
        self.metrics = ServiceMetrics(self.title.lower(), metrics_family)
        super().__init__(**options)

    def routes(self) -> list[Route]:
        """Health and metrics; subclasses add theirs."""
        base = self.health_path
        return [
            Route(f"GET {base}", self._health),
            Route(f"GET {base}/detailed", self._detailed),
            Route(f"GET {base}/liveness", lambda _request: Answer(200)),
            Route(f"GET {base}/readiness", self._readiness),
            Route("GET /actuator/health", self._actuator),
            Route("GET /actuator/health/liveness", lambda _request: json_answer({"status": UP})),
            Route("GET /actuator/health/readiness", self._actuator_readiness),
            Route("GET /actuator/prometheus", self._prometheus),
            Route("GET /management/prometheus", self._prometheus),
        ]

    def observe(self, uri: str, request: Request, status: int, *, seconds: float) -> None:
        """Count the request."""
        self.metrics.request(uri, request.method, status, seconds=seconds)

    def parts(self) -> dict[str, bool]:
        """The dependencies that detailed health names, and whether each is up."""
        return {}

    def _parts(self) -> dict[str, str]:
        return {name: UP if up else DOWN for name, up in self.parts().items()}

    def _degraded(self) -> bool:
        return self.faults.on(f"{self.name}-degraded")

    def _word(self) -> str:
        if self.faults.on(f"{self.name}-status"):
            return self.faults.value(f"{self.name}-status")
        return DEGRADED if self._degraded() else UP

    def _part_down(self) -> dict[str, str]:
        """The part that is down without lowering the whole."""
        on = self.faults.on(f"{self.name}-part-down")
        return {self.faults.value(f"{self.name}-part-down"): DOWN} if on else {}

    def _inside(self) -> dict[str, Any]:
        """What Actuator shows of parts in trouble that do not lower the whole."""
        found: dict[str, Any] = {n: {"status": word} for n, word in self._part_down().items()}
        if self.faults.on(f"{self.name}-breaker-open"):
            breaker = {"failureRate": "100.0%", "state": "OPEN"}
            name = self.faults.value(f"{self.name}-breaker-open")
            row = {name: {"status": "CIRCUIT_OPEN", "details": breaker}}
            found["circuitBreakers"] = {"status": "UNKNOWN", "details": row}
        return {"components": found} if found else {}

    def _health(self, _request: Request) -> Answer:
        return json_answer({"service": self.title, "status": self._word(), **self._inside()})

    def _detailed(self, _request: Request) -> Answer:
        parts, word = self._parts(), self._word()
        if word == UP and DOWN in parts.values():
            word = DEGRADED
        body = {"service": self.title, "status": word, **parts, **self._part_down()}
        return json_answer(body, 503 if word == DEGRADED else 200)

    def _readiness(self, _request: Request) -> Answer:
        return Answer(503 if self._degraded() else 200)

    def _actuator(self, _request: Request) -> Answer:
        components = {name: {"status": word} for name, word in self._parts().items()}
        components["ping"] = {"status": UP}
        word = DOWN if DOWN in self._parts().values() or self._degraded() else self._word()
        body = {"status": word, "groups": ["liveness", "readiness"], "components": components}
        return json_answer(body, 503 if word in (DOWN, "OUT_OF_SERVICE") else 200)

    def _actuator_readiness(self, _request: Request) -> Answer:
        word = "OUT_OF_SERVICE" if self._degraded() else UP
        return json_answer({"status": word}, 503 if self._degraded() else 200)

    def _prometheus(self, _request: Request) -> Answer:
        return Answer(200, self.metrics.registry.render().encode(), CONTENT_TYPE)

    def error(self, status: int, code: str, message: str) -> Answer:
        """The services' error body."""
        body = {
            "errorCode": code,
            "message": message,
            "requestId": str(uuid.uuid4()),
            "timestamp": jackson_time(self.now()),
        }
        return json_answer(body, status)
