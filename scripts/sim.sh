#!/usr/bin/env bash
# `npm run sim [-- COMMAND …]`: sets the machine up, then runs the simulator's command line. Without a command: `up` with the demo.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bash "$root/scripts/setup.sh" sim
export PATH="$root/node_modules/.bin:$PATH"
export NODE_COMPILE_CACHE="$root/node_modules/.cache/node-compile"
cd "${INIT_CWD:-$PWD}"
exec node "$root/e2e/dist/bin/calico-sim.mjs" "$@"
