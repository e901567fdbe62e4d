"""Decision: the anomaly detector over one aggregate series, a pseudo client without addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional, Union

from monitoring.anomaly.detector import DEFAULT_SENSITIVITY, Detector
from monitoring.anomaly.telling import series_anomaly
from monitoring.anomaly.types import Anomaly, Bucket, Sensitivity, Usage


class SeriesDetector:
    """The same machinery for one aggregate series, as a pseudo client that never has addresses.

    `unit` is the smallest difference that matters (1 token, 0.001 of a share): values are counted
    in it. An Anomaly's `client` is the series' name, `observed` and `expected` are in the series'
    own unit (an hour's mean; the mean of 24 hours for `slow_abuse`). Reasons that occur:
    volume_spike, off_habit, slow_abuse, silence, dormant_woken.
    """

    def __init__(
        self,
        name: str,
        unit: float = 1.0,
        *,
        sensitivity: Sensitivity = DEFAULT_SENSITIVITY,
        profiles: Optional[Mapping[str, Union[str, bytes]]] = None,
    ) -> None:
        self.name, self.unit = name, unit
        self._detector = Detector(sensitivity, profiles, fewest_clients=1)

    def feed(self, at: float, seconds: float, value: Optional[float]) -> list[Anomaly]:
        """The mean `value` from `at` for `seconds`; None = not measured, which is a gap."""
        if value is None:
            return []
        usage = Usage(value / self.unit * seconds / 3600.0, 0.0)
        found = self._detector.feed(Bucket(at, seconds, {self.name: usage}))
        return [series_anomaly(anomaly, self.unit) for anomaly in found]

    def mind_clock(self, now: float) -> None:
        """As Detector.mind_clock."""
        self._detector.mind_clock(now)

    def dump(self) -> dict[str, str]:
        """As Detector.dump."""
        return self._detector.dump()
