"""Everything behind the three scripts. The map of the house:

    health_check.py  token_usage_metrics.py  credential_usage_metrics.py    what is asked, in order
    utils.py            settings become live things, and a run
    monitoring/
      model catalog settings  env configuration config/                values and settings
      http_client http/  redis_client cache/  conjur vault/
        service_metrics  probes probing/                               acquire
      health judging/  thresholds  service_levels sla/  token_codecs
        codecs/  token_stats tokens/  credential_stats credentials/
        anomalies anomaly/  conditions alerts alerting/                evaluate, pure
      state history/  outbox notifier channels/                        keep and tell
      runner stopping pipeline modes  exposition report reports/ pages/
        outputs terminal logs                                          run and present

Data flows one way: acquire -> evaluate -> present.
"""

from __future__ import annotations

__version__ = "1.0.0"
