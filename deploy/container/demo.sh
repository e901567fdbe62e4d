#!/bin/sh
# The three exporters beside the sandbox whose environment they get. When one ends, all do: the
# container is then started anew, or seen to be dead.
set -u
: "${INTERVAL:=15}"
running=""
trap 'kill $running 2>/dev/null' INT TERM
for row in health_check:9791 token_usage_metrics:9792 credential_usage_metrics:9793; do
  python "${row%%:*}.py" --prometheus-port "${row##*:}" --interval "$INTERVAL" &
  running="$running $!"
done
while kill -0 $running 2>/dev/null; do sleep 1; done
kill $running 2>/dev/null
wait
exit 1
