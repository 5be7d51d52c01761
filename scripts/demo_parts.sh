# What every demo does; sourced by scripts/demo.sh and scripts/demo-nomad.sh, which set WORK, its folder, first.
# shellcheck shell=bash
readonly VENV=$PWD/.demo/venv BASES=(mlops-base:bookworm python:3.11-slim-bookworm)
readonly RATE=50 NEW=15
STARTED=$(date +%s%N)
ENGINE=there LOAD='' RELEASED=''

seconds() { awk -v from="$STARTED" -v to="$(date +%s%N)" 'BEGIN { printf "%.1f", (to - from) / 1e9 }'; }
say() { printf '\n[%5s s] %s\n' "$(seconds)" "$1"; }
die() { printf '\ndemo: %s\n' "$1" >&2; exit "${2:-1}"; }
run() { printf '$ %s\n' "$*"; (cd "$WORK" && "$@"); }
quietly() { "$@" >"$WORK/log" 2>&1 || { tail -n 20 "$WORK/log" >&2; die "\`$*\` failed; its last lines are above"; }; }
is_debian_12() { (. /etc/os-release && [ "$ID $VERSION_ID" = 'debian 12' ]) 2>/dev/null; }
answers() { command -v docker >/dev/null && timeout 10 docker version >/dev/null 2>&1; }
has_image() { docker image inspect "$1" >/dev/null 2>&1; }
free_port() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# As root on Debian 12, what is missing is installed; elsewhere the engine and its tools are the user's own.
prepare_engine() {
  local tools=()
  if is_debian_12 && [ "$(id -u)" = 0 ]; then tools=(--build-tools); fi
  if ! answers; then
    say 'no Docker Engine answers: setting one up (only as root on Debian 12, from its trixie suite, which is added to apt)'
    [ "${KEEP_ENGINE:-0}" != 0 ] || ENGINE=ours
  fi
  scripts/engine.sh "${tools[@]}" || { ENGINE=none; return 1; }
}

prepare_files() {
  mkdir -p "$WORK"
  cp examples/digits/{mlops.yml,train.py,golden.jsonl,request.json,requirements.txt} "$WORK"
  PORT=$(free_port)
  printf 'port: %s\nrelease: {bake: 0s}\n' "$PORT" >"$WORK/mlops.demo.yml"
  rm -f "$WORK/address"
}

prepare_training() {
  cmp -s "$WORK/requirements.txt" "$VENV/installed.txt" && return
  quietly scripts/venv.sh "$VENV"
  quietly "$VENV/bin/pip" install --disable-pip-version-check --requirement "$WORK/requirements.txt"
  cp "$WORK/requirements.txt" "$VENV/installed.txt"
}

# A carrier needs a static busybox: this machine's, the official image's, or the one of a Debian package that is
# unpacked without being installed.
prepare_shell() {
  local path
  for path in /bin /usr/bin /usr/local/bin; do if is_static "$path/busybox"; then return; fi; done
  SHELL_OPTION=(--shell "$PWD/.demo/busybox")
  is_static .demo/busybox || shell_from_image || shell_from_package ||
    die 'there is no static busybox here, and a carrier needs one: install `busybox-static`'
}

is_static() { [ -x "$1" ] && ! ldd "$1" >/dev/null 2>&1; }

shell_from_image() {
  local container
  container=$(docker create busybox:musl true 2>/dev/null) || return 1
  docker cp --quiet "$container:/bin/busybox" .demo/busybox
  docker rm "$container" >/dev/null
}

shell_from_package() (
  command -v apt-get dpkg-deb >/dev/null || return 1
  rm -rf .demo/package && mkdir -p .demo/package/lists/partial && cd .demo/package
  {
    apt-get -q download busybox-static ||
      { apt-get -q -o Dir::State::lists="$PWD/lists" update && apt-get -q -o Dir::State::lists="$PWD/lists" download busybox-static; }
    dpkg-deb --extract busybox-static_*.deb .
  } >log 2>&1 || return 1
  find . -path '*bin/busybox' -exec cp {} ../busybox \;
)

build_carrier() {
  SHELL_OPTION=()
  say 'the carrier: a small image with the model and the script that copies it'
  prepare_shell
  run mlops-deploy build-model -e demo "${SHELL_OPTION[@]}"
}

train() {
  say 'the model: handwritten digits, trained on data that ship with scikit-learn'
  prepare_training
  run "$VENV/bin/python" train.py
}

build_server() {
  say 'the server image: knows no model, is built once (minutes the first time)'
  prepare_base
  run mlops-deploy build-server -e demo
}

# A base image, from a registry or, where none can be reached, made on this machine.
prepare_base() {
  local base
  for base in "${BASES[@]}"; do if has_image "$base"; then return; fi; done
  timeout 300 docker pull --quiet "${BASES[1]}" 2>/dev/null || images/base/build.sh
}

predict() {
  say 'a prediction: request.json shows this image'
  python3 - "$WORK/request.json" "http://127.0.0.1:$PORT/v2/models/digits/infer" <<'PYTHON'
import json, sys, urllib.request

body = open(sys.argv[1], "rb").read()
pixels = json.loads(body)["inputs"][0]["data"]
for row in range(0, 64, 8):
    print("         " + "".join(" .:-=+*#%@@"[pixel * 10 // 16] * 2 for pixel in pixels[row : row + 8]))
answer = json.load(urllib.request.urlopen(urllib.request.Request(sys.argv[2], body), timeout=30))
[digit] = answer["outputs"][0]["data"]
print(f"         {answer['model_name']}@{answer['model_version']} answers: {digit}")
sys.exit(digit != 3)
PYTHON
  printf '\nfirst prediction after %s s\n' "$(seconds)"
}

release_first() {
  say 'a release: a router, slot a, and all traffic to it'
  RELEASED=$1
  run mlops-deploy release -e demo --target "$1"
}

release_under_load() {
  say 'a second version of the model, and its carrier'
  run "$VENV/bin/python" train.py --c 3
  run mlops-deploy build-model -e demo "${SHELL_OPTION[@]}"
  say "blue/green at $RATE requests/s, $NEW of them on new connections: slot b starts, proves itself, takes over; and back"
  python3 benchmarks/load.py "http://127.0.0.1:$PORT/v2/models/digits/infer" "$WORK/request.json" \
    --rate "$RATE" --new "$NEW" --seconds 600 >"$WORK/load.json" &
  LOAD=$!
  sleep 1
  timed release
  timed rollback
  sleep 1
  kill "$LOAD" && wait "$LOAD"
  LOAD=''
  run mlops-deploy status -e demo --target "$RELEASED"
  reckon
}

# A verb whose result goes to VERB.json, with the seconds of the whole command in VERB.seconds.
timed() {
  local begun
  begun=$(date +%s%N)
  printf '$ mlops-deploy %s -e demo\n' "$1"
  (cd "$WORK" && mlops-deploy "$1" -e demo --target "$RELEASED" --output json >"$1.json")
  awk -v from="$begun" -v to="$(date +%s%N)" 'BEGIN { print (to - from) / 1e9 }' >"$WORK/$1.seconds"
}

reckon() {
  python3 - "$WORK" <<'PYTHON'
import json, pathlib, sys

folder = pathlib.Path(sys.argv[1])
load, release, rollback = (json.loads((folder / f"{name}.json").read_text()) for name in ("load", "release", "rollback"))
took = {name: float((folder / f"{name}.seconds").read_text()) for name in ("release", "rollback")}
print()
print(f"requests sent   {load['sent']:,}, failed {load['failed']}")
for version, count in load["answered"].items():
    print(f"                {count:,} answered by {version}")
print(f"switch          {release['switch_seconds'] * 1000:.1f} ms (the whole release {took['release']:.1f} s)")
print(f"rollback        {took['rollback']:.2f} s (its switch {rollback['switch_seconds'] * 1000:.1f} ms)")
for time, why in load["failures"]:
    print(f"failed at {time:.3f}: {why}")
sys.exit(load["failed"] != 0 or len(load["answered"]) != 2)
PYTHON
}

go_on() {
  cat <<EOF

Done. To go on by hand (README.md tells the story):
  PATH=$(dirname "$(command -v mlops-deploy)"):\$PATH
  cd ${WORK#"$PWD"/}
$1
EOF
}


end_load() {
  if [ -n "$LOAD" ]; then kill "$LOAD" 2>/dev/null && wait "$LOAD" || true; fi
}

remove_released() {
  [ -n "$RELEASED" ] || return 0
  say 'removing both slots, the router and their state'
  run mlops-deploy down -e demo --target "$RELEASED" --volumes --force
}

end_engine() {
  [ "$ENGINE" = ours ] || return 0
  say 'ending the Docker Engine that was started for the demo (KEEP_ENGINE=1 keeps one)'
  scripts/engine.sh --stop
}
