#!/bin/sh
# The three exporters beside the sandbox whose environment they get; ends with the first that ends.
set -eu
: "${INTERVAL:=15}"
for row in health_check:9791 token_usage_metrics:9792 credential_usage_metrics:9793; do
  MONITORING_STATE_DIR="${MONITORING_STATE_DIR:-/tmp/state}" \
    python "${row%%:*}.py" --prometheus-port "${row##*:}" --interval "$INTERVAL" &
done
wait
