#!/bin/sh
# restart-agent.sh METHOD: the agent of this node again, with another IP_AUTODETECTION_METHOD and else as it was.
set -eu
agent=$(pgrep -f '[r]efnet-agent' | head -n 1)
before=$(tr '\0' '\n' <"/proc/$agent/environ" | grep -v '^IP_AUTODETECTION_METHOD=')
kill "$agent"
while kill -0 "$agent" 2>/dev/null; do timeout 1 tail --pid="$agent" -f /dev/null || true; done
# shellcheck disable=SC2086 -- one word for each variable
setsid env -i $before "IP_AUTODETECTION_METHOD=$1" refnet-agent >>/run/lesson-agent.log 2>&1 </dev/null &
