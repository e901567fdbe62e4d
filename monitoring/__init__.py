"""Everything behind the three scripts. The map of the house, one package per subject:

    health_check.py  token_usage_metrics.py  credential_usage_metrics.py    what is asked, in order
    utils.py            settings become live things, and a run
    monitoring/
      model catalog thresholds text certainty    frozen values, metrics, limits, words
      config/                                    the settings: schema, layers, problems
      http/ redis/ conjur/ services/             acquire: the packages that touch those systems
      health/                                    the components: probes and judges
      tokens/ tokens/codecs/ analyze/            the token cache: census, findings, report
      credentials/ anomaly/                      ages, rotation, revocation, misuse
      alerts/ channels/                          who is notified of what, and how
      store/ sla/                                the state file, histories, service levels
      output/                                    JSON, tables, metrics, logs, pages
      run modes cli guided_setup stopping peers  when cycles run, and the command line

Data flows one way: acquire -> decide -> keep and present.
"""

from __future__ import annotations

__version__ = "1.0.0"
