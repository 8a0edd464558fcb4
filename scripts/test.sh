#!/usr/bin/env bash
# `npm test`: sets the machine up, then every check and test. Arguments go to vitest alone: npm test -- packages/cni -t "hold timer"
set -euo pipefail
cd "$(dirname "$0")/.."
export npm_lifecycle_event=test
bash scripts/setup.sh test
export PATH="$PWD/node_modules/.bin:$PATH"
if [ $# -gt 0 ]; then exec vitest run "$@"; fi
rm -rf artifacts/test
status=0
node scripts/check.ts || status=1
printf '\n==> kernel tests, peers and simulator scenarios: vitest run --project kernel\n' >&2
node scripts/run-tests.ts kernel || status=1
node scripts/test-summary.ts artifacts/test || status=1
exit $status
