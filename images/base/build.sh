#!/usr/bin/env bash
# Makes the base image of prediction servers where no registry can be reached: Debian 12 with Python 3.11, venv and
# CA certificates, every security update of the day, no documentation.
#
#   build.sh           prints the image's tag; does nothing when the engine has the image already
#   build.sh --fresh   makes it anew, with today's updates
#
# The story goes to stderr. Exit codes: 0 the image is there, 2 wrong usage, 8 not possible here or not reachable.
# The file system is kept as a tar in ${XDG_CACHE_HOME:-~/.cache}/mlops-deploy/base; the same package lists and the
# same recipe give the same tar. Packages come from the mirror that this machine's apt uses; the image itself names
# Debian's public one.
set -euo pipefail

readonly TAG=mlops-base:bookworm
readonly SUITE=bookworm
readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
readonly PACKAGES=(python3 python3-venv)
readonly UNWANTED=(/usr/share/{doc,man,info,locale,lintian,doc-base,bug}/'*')
RECIPE=$(sha256sum "${BASH_SOURCE[0]}" | head -c 12)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/mlops-deploy/base
WORK=$CACHE/work
readonly RECIPE CACHE WORK

say() { printf 'base: %s\n' "$*" >&2; }
die() { say "$1"; exit "${2:-8}"; }

# Debian's public mirror, as debootstrap knows it.
public_mirror() { sed -n 's/^DEF_MIRROR="\(.*\)"$/\1/p' "$(command -v debootstrap)"; }

public_sources() {
  local mirror
  mirror=$(public_mirror)
  printf 'deb %s main\n' "$mirror $SUITE" "$mirror $SUITE-updates" "$mirror-security $SUITE-security"
}

# The same suites at the machine's own mirrors, whichever file and form (`deb` line or deb822) they are written in.
# apt tells Debian's suites from others of the same name only once it has fetched its lists.
known_sources() {
  apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) main' 'Created-By: Packages' 'Origin: Debian' 'Component: main' |
    grep -E "^deb [^ ]+ $SUITE(-updates|-security)? main$"
}

machine_sources() {
  local own
  own=$(known_sources || { apt-get -q update >&2 && known_sources; }) || true
  if grep -q " $SUITE main$" <<<"$own"; then echo "$own"; else public_sources; fi
}

main_mirror() { machine_sources | awk -v suite="$SUITE" '$3 == suite { print $2; exit }'; }

# Proxies, retries and checks as this machine's apt is told, and the authorities that this machine trusts.
machine_settings() {
  apt-config dump --format '%F "%v";%n' Acquire
  echo 'Acquire::Retries "3"; Acquire::https::CAInfo "/run/machine-ca.crt";'
}

slim_rules() {
  printf 'path-exclude=%s\n' "${UNWANTED[@]}"
  printf 'path-include=%s\n' '/usr/share/doc/*/copyright' /usr/share/locale/locale.alias
}

# debootstrap ignores dpkg's rules, so what it unpacked is removed by the same list.
remove_unwanted() {
  local pattern
  for pattern in "${UNWANTED[@]}"; do
    [ -d "$1${pattern%/\*}" ] || continue
    find "$1${pattern%/\*}" ! -type d ! -path '*/doc/*/copyright' ! -name locale.alias -delete
    find "$1${pattern%/\*}" -mindepth 1 -type d -empty -delete
  done
}

in_root() { DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$@"; }

install_in_root() {
  local root=$1
  slim_rules >"$root/etc/dpkg/dpkg.cfg.d/slim"
  machine_settings >"$root/etc/apt/apt.conf.d/00machine"
  machine_sources >"$root/etc/apt/sources.list"
  [ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$root/run/machine-ca.crt"
  mount -t proc proc "$root/proc"
  in_root "$root" apt-get -q update
  in_root "$root" apt-get -q -y -o Dpkg::Options::=--force-unsafe-io dist-upgrade
  in_root "$root" apt-get -q -y -o Dpkg::Options::=--force-unsafe-io install --no-install-recommends "${PACKAGES[@]}"
  umount "$root/proc"
}

# The newest of the package lists' own dates: no packaged file is younger, so clamping to it touches only what the
# installation wrote, and compiled Python keeps matching its source.
lists_date() { sed -n 's/^Date: //p' "$1"/var/lib/apt/lists/*Release | date -f - +%s | sort -n | tail -n 1; }

remove_traces() {
  local root=$1 date=$2
  remove_unwanted "$root"
  public_sources >"$root/etc/apt/sources.list"
  rm -rf "$root"/etc/apt/apt.conf.d/00machine "$root"/etc/{resolv.conf,hostname,machine-id,passwd-,group-,shadow-,gshadow-,ca-certificates.conf.dpkg-old} \
    "$root"/var/lib/apt/lists/* "$root"/var/cache/{apt,debconf,ldconfig}/* "$root"/var/log/* "$root"/var/lib/dpkg/*-old \
    "$root"/run/* "$root"/tmp/*
  sed -i "s/^\([^:]*:[^:]*:\)[0-9]*/\1$((date / 86400))/" "$root/etc/shadow"
}

# Runs in a mount namespace of its own: whatever dies, no mount outlives it. The authorities are named here because
# debootstrap adds them by itself for https mirrors only.
make_tar() {
  local root=$1 tar=$2 date
  debootstrap --variant=minbase --include=ca-certificates --force-check-gpg --keyring="$KEYRING" \
    "$SUITE" "$root" "$(main_mirror)"
  install_in_root "$root"
  date=$(lists_date "$root")
  remove_traces "$root" "$date"
  tar --create --file "$tar" --directory "$root" --sort=name --numeric-owner --format=gnu \
    --clamp-mtime --mtime="@$date" .
}

cached_tar() {
  local tar
  tar=$CACHE/$SUITE-$(dpkg --print-architecture)-$RECIPE.tar
  if [ ! -f "$tar" ]; then
    say "making a Debian 12 file system from $(main_mirror), which takes a minute"
    unshare --mount bash "${BASH_SOURCE[0]}" --make-tar "$WORK/root" "$WORK/tar" >"$CACHE/log" 2>&1 || failed
    rm -f "$CACHE/$SUITE"-*.tar
    mv "$WORK/tar" "$tar"
  fi
  echo "$tar"
}

failed() {
  tail -n 15 "$CACHE/log" >&2
  die "the file system could not be made: the end of $CACHE/log is above"
}

import() {
  docker import --message "Debian 12 with Python 3.11 ($RECIPE)" \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' --change 'ENV LANG=C.UTF-8' \
    --change 'CMD ["python3"]' --change "LABEL io.mlops-deploy.base.recipe=$RECIPE" "$1" "$TAG" >/dev/null
}

is_there() {
  [ "$(docker image inspect --format '{{index .Config.Labels "io.mlops-deploy.base.recipe"}}' "$TAG" 2>/dev/null)" = "$RECIPE" ]
}

remove_work() { rm -rf --one-file-system "$WORK"; }

require_means() {
  local command
  [ "$(id -u)" = 0 ] || die 'making a file system needs root: run this script as root, or name another base image'
  for command in apt-get debootstrap unshare; do
    command -v "$command" >/dev/null || die "\`$command\` is missing: on Debian, \`apt-get install debootstrap\` as root"
  done
}

build() {
  require_means
  mkdir -p "$CACHE"
  exec 9>"$CACHE/lock"
  flock 9
  trap remove_work EXIT
  remove_work # what a killed run left
  mkdir "$WORK"
  if [ "$1" = --fresh ]; then rm -f "$CACHE/$SUITE"-*.tar; elif is_there; then return; fi
  local tar
  tar=$(cached_tar)
  import "$tar" || die "the engine refused $tar"
  say "$TAG is $(docker image inspect --format '{{.Size}}' "$TAG" | numfmt --to=iec)"
}

main() {
  case ${1:-} in
    --make-tar) make_tar "$2" "$3"; return ;;
    '' | --fresh) ;;
    *) die 'usage: build.sh [--fresh]' 2 ;;
  esac
  docker version >/dev/null 2>&1 || die 'no engine answers: start Docker, or name another base image where it runs'
  if [ -n "${1:-}" ] || ! is_there; then build "${1:-}"; fi
  echo "$TAG"
}

main "$@"
