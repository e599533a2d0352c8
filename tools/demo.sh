#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A dcPIM server and a ping against it, and a krping over the soft engine, over loopback and without root.
set -eu
cd "$(dirname -- "$0")/.."
rackwire=build/bin/rackwire

# A port nobody holds, for UDP or TCP: 4000, or the next one up.
port=4000
while awk -v p="$(printf '%04X' "$port")" '{ n = split($2, a, ":"); if (a[n] == p) found = 1 } END { exit !found }' \
	/proc/net/udp /proc/net/udp6 /proc/net/tcp /proc/net/tcp6 2>/dev/null; do
	port=$((port + 1))
done

log=$(mktemp)
server=
stop() {
	if [ -n "$server" ]; then
		kill -TERM "$server" 2>/dev/null || true
		wait "$server" || true
		server=
	fi
}
finish() {
	stop
	rm -f "$log"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Starts a server, its arguments, and waits until it listens.
serve() {
	echo "\$ rackwire $* &"
	"$rackwire" "$@" >"$log" 2>&1 &
	server=$!
	tries=0
	until grep -qi listening "$log"; do
		tries=$((tries + 1))
		if ! kill -0 "$server" 2>/dev/null || [ "$tries" -gt 200 ]; then
			cat "$log" >&2
			echo "the server did not start" >&2
			exit 1
		fi
		sleep 0.1
	done
	cat "$log"
}

run() {
	echo "\$ rackwire $*"
	"$rackwire" "$@"
}

serve dcpim server --ip 127.0.0.1 --port "$port"
run dcpim ping "127.0.0.1:$port" --count 1000
stop

echo
serve krping server --addr 127.0.0.1 --port 0 --engine soft
port=$(sed -n 's/^listening on 127\.0\.0\.1:\([0-9]*\),.*/\1/p' "$log")
run krping client "127.0.0.1:$port" --engine soft --count 1000 --validate
