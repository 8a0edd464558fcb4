#!/usr/bin/env bash
# Prepares this machine for `npm run sim` (profile sim) or `npm test` (profile test): Debian packages, npm packages, builds.
# Every step is skipped when its result is already there; an interrupted run can be repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-sim}

say() { printf '\033[2m==> %s\033[0m\n' "$*" >&2; }
die() {
  printf '\n%s\n' "$*" >&2
  exit 2
}

[ "$(uname -s)" = Linux ] || die "calico-ts needs Linux: it programs network namespaces, routes and nftables. This is $(uname -s). Use a Linux machine or virtual machine (Debian 12 or newer)."
[ "$(id -u)" = 0 ] || die "This command needs root, because it creates network namespaces and programs nftables in them. Run it again as root, for example:  sudo npm run ${npm_lifecycle_event:-sim}"
node_major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
[ "$node_major" -ge 20 ] || die "Node.js 20 or newer is needed to start; found $(node --version 2>/dev/null || echo none). Debian: apt-get install nodejs npm (Debian 13), or NodeSource packages on Debian 12."
case $(uname -m) in x86_64 | aarch64) ;; *) die "No prebuilt Node.js for $(uname -m) on npm: x86_64 and aarch64 are supported." ;; esac

# command:package. The product itself runs none of these; people and tests do.
wanted="ip:iproute2 nft:nftables kubectl:kubernetes-client setpriv:util-linux"
if [ "$profile" = test ]; then
  wanted="$wanted iptables:iptables faketime:faketime conntrack:conntrack tcpdump:tcpdump ping:iputils-ping git:git mmdebstrap:mmdebstrap bird:bird2 containerd:containerd runc:runc podman:podman busybox:busybox-static etcd:etcd-server etcdctl:etcd-client /usr/lib/frr/bgpd:frr gobgpd:gobgpd /usr/lib/cni/host-local:containernetworking-plugins"
  # The kernel for tests whose modules this one may lack. Debian has it for this architecture alone.
  [ "$(uname -m)" != x86_64 ] || wanted="$wanted linux.uml:user-mode-linux"
fi
missing=""
for pair in $wanted; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null 2>&1 || die "Missing on this machine:$missing (Debian package names). Install them with your distribution's package manager and run this again."
  say "installing Debian packages:$missing"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  # shellcheck disable=SC2086
  if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "apt-get could not install:$missing. The messages above say why; run this again when it is mended."
  fi
  rm -f "$log"
fi

# Two commands at once in one checkout: npm ci removes what the other one is writing.
exec 9<scripts/setup.sh
flock --nonblock 9 || {
  say "waiting for another set-up of this checkout"
  flock 9
}
lock=$(sha256sum package-lock.json package.json packages/*/package.json sim/package.json e2e/package.json images/package.json | sha256sum | cut -c1-32)
stamp=node_modules/.calico-setup
if [ "$(cat "$stamp" 2>/dev/null)" != "$lock" ]; then
  say "installing npm packages (npm ci)"
  npm ci --no-audit --no-fund --loglevel=error >&2 || die "npm ci failed; the messages above say why. Run this again when it is mended."
  printf '%s' "$lock" >"$stamp"
fi
export PATH="$PWD/node_modules/.bin:$PATH"
case "$(node --version)" in
v24.*) ;;
*) die "The pinned Node 24 is not on PATH (found $(node --version)); remove node_modules and run this again." ;;
esac
node scripts/build.ts --if-stale
