#!/usr/bin/env bash
# Makes a Docker Engine answer on a bare Debian 12 machine. Running it again changes nothing.
#
#   engine.sh                 the engine, the client, and its compose and buildx plugins
#   engine.sh --build-tools   also what images are built from without a registry: debootstrap, a static busybox
#   engine.sh --test-tools    also what only the tests need: skopeo, strace, haproxy, wrk, docker-registry, podman, and
#                             Debian 12's own Docker 20.10, unpacked and not installed
#   engine.sh --stop          ends this machine's engine: for callers who know that they had it started
#
# The story goes to stderr, one line naming the engine to stdout. Exit codes: 0 the engine answers and every tool
# is there, 2 wrong usage, 8 not possible here or not reachable; the sentence on stderr says why.
set -euo pipefail

readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
readonly SOURCE=/etc/apt/sources.list.d/mlops-deploy-trixie.sources
readonly PIN=/etc/apt/preferences.d/mlops-deploy-trixie
readonly LOG=/var/log/mlops-deploy-dockerd.log
readonly OLD_ENGINE=/var/lib/mlops-deploy/docker-20.10
readonly DEADLINE=60 # seconds from the start of dockerd to its first answer

say() { printf 'engine: %s\n' "$*" >&2; }
die() { say "$1"; exit "${2:-8}"; }

# `docker version` fails when no server answers; `docker info` does so only in newer clients.
engine_version() { timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null; }
answers() { engine_version >/dev/null; }
has_command() { command -v "$1" >/dev/null 2>&1; }
has_plugin() { docker "$1" version >/dev/null 2>&1; }
has_package() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Debian 12's own engine is 20.10 with Compose 1: too old. Trixie's packages run on Debian 12's libc.
missing_engine() {
  answers || has_command dockerd || printf '%s\n' docker.io/trixie docker-cli/trixie
  has_plugin compose || echo docker-compose/trixie
  has_plugin buildx || echo docker-buildx/trixie
}

# Trixie's busybox hashes about six times faster (SHA-NI) than Debian 12's.
missing_tools() {
  case $1 in --build-tools | --test-tools)
    has_command debootstrap || echo debootstrap
    has_package busybox-static || echo busybox-static/trixie ;;
  esac
  case $1 in --test-tools)
    has_command skopeo || echo skopeo
    has_command strace || echo strace
    has_command haproxy || echo haproxy
    has_command docker-registry || echo docker-registry
    has_command podman || echo podman
    has_command wrk || echo wrk ;;
  esac
}

# Debian 12's engine beside the newer one: what loads an archive there has to be tried, too.
unpack_old_engine() {
  local work package
  work=$(mktemp -d)
  say "unpacking Docker 20.10 to $OLD_ENGINE"
  chmod 755 "$work"
  for package in docker.io containerd runc; do
    (cd "$work" && apt-get -q -o Acquire::Retries=3 download "$package/bookworm" >&2) || die "cannot download $package"
  done
  for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/root"; done
  mkdir -p "${OLD_ENGINE%/*}"
  mv -T "$work/root" "$OLD_ENGINE"
  rm -rf "$work"
}

require_root_on_debian_12() {
  local id='' version=''
  if [ -r /etc/os-release ]; then
    id=$(. /etc/os-release && echo "${ID:-}") version=$(. /etc/os-release && echo "${VERSION_ID:-}")
  fi
  [ "$id $version" = 'debian 12' ] ||
    die "this machine lacks $1, and only Debian 12 is set up by this script: install it by this system's own means"
  [ "$(id -u)" = 0 ] || die "this machine lacks $1, and setting that up needs root: run this script as root"
}

# Where this machine gets a suite of Debian from, whichever file and form (`deb` line or deb822) says so. Empty when
# it does not; known only after `apt-get update`.
mirror_of() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Release: $1" 'Component: main' | sed -n 1p
}

add_trixie() {
  [ -z "$(mirror_of trixie)" ] || return 0
  local mirror
  mirror=$(mirror_of bookworm)
  [ -n "$mirror" ] || die "apt on this machine names no mirror of Debian's bookworm suite: add one, then run this script again"
  say "adding Debian's trixie suite to apt at priority 50, so that only packages asked for by name come from it ($SOURCE, $PIN)"
  printf 'Package: *\nPin: release o=Debian,n=trixie\nPin-Priority: 50\n' >"$PIN"
  printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: %s\n' \
    "$mirror" "$KEYRING" >"$SOURCE"
  update_lists
}

update_lists() {
  apt-get -q -o Acquire::Retries=3 update >&2 || die 'apt could not update its lists: check the network, then run this script again'
}

install_packages() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 install --no-install-recommends "$@" >&2 ||
    die 'apt could not do this: see its own message above, check the network, then run this script again'
}

# Another vendor's container packages are never removed: apt then refuses and says which. A dynamic busybox may give
# way to its static twin, as Debian means it to.
install_missing() {
  update_lists
  add_trixie
  say "installing ${missing[*]}"
  [ "${#engine[@]}" = 0 ] || install_packages --no-remove "${engine[@]}"
  [ "${#tools[@]}" = 0 ] || install_packages "${tools[@]}"
}

# A killed engine leaves these behind, and a number that another process has by now would keep a new one from starting.
remove_stale_pids() {
  rm -f /var/run/docker.pid
  pidof containerd >/dev/null || rm -f /var/run/docker/containerd/containerd.pid
}

start_engine() {
  local pid='' until=$((SECONDS + DEADLINE))
  if [ -d /run/systemd/system ]; then
    systemctl start docker || die 'systemd could not start docker: see `journalctl -u docker`'
  elif ! pidof dockerd >/dev/null; then
    say "starting dockerd (log: $LOG)"
    remove_stale_pids
    setsid nohup dockerd </dev/null >>"$LOG" 2>&1 &
    pid=$!
  fi
  until answers; do
    [ -z "$pid" ] || kill -0 "$pid" 2>/dev/null || give_up 'dockerd ended at once'
    [ "$SECONDS" -lt "$until" ] || give_up "the engine did not answer within $DEADLINE s"
    sleep 0.3
  done
}

# The containers of an engine end with it; so does the containerd that it started.
stop_engine() {
  local pid until=$((SECONDS + DEADLINE))
  if [ -d /run/systemd/system ]; then systemctl stop docker.socket docker.service; return; fi
  pid=$(cat /var/run/docker.pid 2>/dev/null) && kill "$pid" 2>/dev/null || return 0
  while kill -0 "$pid" 2>/dev/null; do
    [ "$SECONDS" -lt "$until" ] || die "dockerd (process $pid) did not end within $DEADLINE s"
    sleep 0.2
  done
}

give_up() {
  [ ! -f "$LOG" ] || tail -n 20 "$LOG" >&2
  die "$1; the end of its log ($LOG) is above"
}

# An older client earlier on PATH may not look where Debian puts the plugins.
check_plugins() {
  local plugin
  for plugin in compose buildx; do
    has_plugin "$plugin" || die "$(command -v docker) does not find its plugin $plugin, though it is installed: put a newer docker first on PATH"
  done
}

main() {
  case ${1:-} in
    --stop) stop_engine; return ;;
    '' | --build-tools | --test-tools) ;;
    *) die 'usage: engine.sh [--build-tools | --test-tools | --stop]' 2 ;;
  esac
  if [ -n "${DOCKER_HOST:-}" ] && ! answers; then
    die "no engine answers at DOCKER_HOST=$DOCKER_HOST: start that engine, or unset DOCKER_HOST to use one on this machine"
  fi
  local engine tools
  mapfile -t engine < <(missing_engine)
  mapfile -t tools < <(missing_tools "${1:-}")
  local missing=("${engine[@]}" "${tools[@]}")
  if [ "${#missing[@]}" -gt 0 ]; then
    require_root_on_debian_12 "${missing[*]%/trixie}"
    install_missing
  fi
  if ! answers; then
    require_root_on_debian_12 'a running Docker Engine'
    start_engine
  fi
  check_plugins
  [ "${1:-}" != --test-tools ] || [ -d "$OLD_ENGINE" ] || unpack_old_engine
  echo "Docker Engine $(engine_version) answers"
}

main "$@"
