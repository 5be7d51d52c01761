#!/bin/sh
# Copies the model of this carrier to $MODEL_VOLUME/v/<content id>, whole or not at all, and points the link
# $MODEL_VOLUME/<model name> at it. Run it or source it: a caller that sources it can see in $DEPLOYED that it was read
# to its end, for a shell that cannot read a script exits 0.
#
#   MODEL_VOLUME   where to copy to, an absolute path; made if missing (default /model)
#   MODEL_ID       the content id that the job expects; another one is refused
#   MODEL_VERIFY   `always` hashes a model that is already there; otherwise its names and sizes are compared
#   CARRIER_ROOT   where this image's /models and /carrier are (default /)
#
#   exit: 0 the model is there · 65 damaged, or not the model asked for · 73 cannot write · 74 no room, or I/O error
#         77 a link or folder stands in the way · 78 bad setting · 143 terminated
#
# Everything private is in v/.<content id>.<n>, a claim. A run that may copy holds the fifo v/.alive open for writing,
# and so do the commands it starts. The kernel lets go when they die, however they die, so reading the fifo to its
# end proves that nobody is at work: only then are claims seen *before* that removed, and of several runs that find
# so only one can make claim n+1. Claims only save work, so waiting for one has an end; that no half model is seen
# rests on the rename alone.

die() { printf 'deploy.sh: %s\n' "$2" >&2; exit "$1"; }
is_id() { case $1 in *[!0-9a-f]*) false ;; *) [ ${#1} -eq 64 ] ;; esac }

main() {
    strict=$-; set +efuC
    umask 022; LC_ALL=C; export LC_ALL
    DEPLOYED='' mine='' children='' deed=found started=$(date +%s)
    trap clean_up EXIT; trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
    read_settings; read_carrier; refuse_links
    if ! found; then
        prepare_volume
        until claimed || found; do case $error in busy | *': File exists') ;; *) refuse_volume ;; esac done
        found || { make_room; copy; publish; deed=copied; }
    fi
    point_link
    printf '%s %s %s: %s bytes in %s s\n' "$deed" "$name" "$short" "$bytes" "$(($(date +%s) - started))"
    tidy
    clean_up
    trap - EXIT HUP INT TERM
    for option in e f u C; do case $strict in *$option*) set -$option ;; esac done
    DEPLOYED=$id
}

read_settings() {
    volume=${MODEL_VOLUME:-/model} root=${CARRIER_ROOT:-/}
    case $volume in /*) ;; *) die 78 "MODEL_VOLUME must be an absolute path, not \`$volume\`" ;; esac
    case ${MODEL_VERIFY:-} in '' | always) ;; *) die 78 "MODEL_VERIFY knows only \`always\`, not \`$MODEL_VERIFY\`" ;; esac
    [ -z "${MODEL_ID:-}" ] || is_id "$MODEL_ID" || die 78 "MODEL_ID must be 64 lower-case hex digits, not \`$MODEL_ID\`"
}

read_carrier() {
    models=${root%/}/models sums=${root%/}/carrier/SHA256SUMS sizes=${root%/}/carrier/SIZES
    id=$(sha256sum <"$sums") && id=${id%% *} && is_id "$id" || die 65 "cannot read \`$sums\`: pull the image again"
    [ "${MODEL_ID:-$id}" = "$id" ] || die 65 "this image carries model $id, the job asks for $MODEL_ID: correct one of them"
    name=$(awk -F'"' '/^  "name": "/ { print $4; exit }' "${root%/}/carrier/manifest.json")
    case $name in '' | v | [!a-z0-9]* | *[!a-z0-9._-]*) die 65 "no model name in \`${root%/}/carrier/manifest.json\`" ;; esac
    # blocks of 4 KiB: what a file takes on most file systems
    totals=$(awk '{ n += 1; b += $1; k += 4 * int(($1 + 4095) / 4096) } END { printf "%d %.0f %.0f", n, b, k }' "$sizes") &&
        [ "${totals%% *}" -gt 0 ] || die 65 "cannot read \`$sizes\`: pull the image again"
    files=${totals%% *} kib=${totals##* } bytes=${totals#* } bytes=${bytes% *}
    patience=$((60 + kib / 16384)) waited=0 last=0      # seconds for a copy that does not end: 16 MiB/s is slow
    versions=$volume/v home=$volume/v/$id alive=$volume/v/.alive
    link=$volume/$name next=$volume/.$name.$id short=$(printf %.12s "$id")
}

refuse_links() {
    for path in "$versions" "$home" "$alive"; do
        [ ! -L "$path" ] || die 77 "\`$path\` is a link, which this script never makes: remove it"
    done
    [ -L "$link" ] || [ ! -e "$link" ] || die 77 "\`$link\` is in the way of the link to the model: move it away"
    [ ! -e "$alive" ] || [ -p "$alive" ] || die 77 "\`$alive\` is not a fifo: remove it"
}

found() { whole "$home" && { [ "${MODEL_VERIFY:-}" != always ] || verified "$home"; }; }
verified() { start_hashing "$1"; joined; }

# The very files, with their sizes, and nothing else: a link or a device shows up without a size.
whole() { [ -d "$1" ] && listing "$1" | cmp -s - "$sizes"; }
listing() (cd "$1" && { find . -type f -print0 | xargs -0 -r stat -c '%s %n'; find . ! -type f ! -type d; } | sort -k2)

# In up to eight processes. Answers are counted: a list that could not be read to its end must not pass.
start_hashing() {
    for part in 1 2 3 4 5 6 7 8; do
        [ "$part" -le "$files" ] || break
        awk -v part="$part" 'NR % 8 == part % 8' "$sums" | (cd "$1" && exec sha256sum -c 2>/dev/null) |
            awk -v want="$(((files + 8 - part) / 8))" '/: OK$/ { n++ } END { exit n != want }' &
        children="$children $!"
    done
}

# Waiting for a child, unlike running it in the foreground, lets a signal be answered at once.
joined() {
    failed=0
    for child in $children; do wait "$child" || failed=$?; done
    children=''
    return "$failed"
}

prepare_volume() {
    error=$(mkdir -p "$versions" 2>&1) || refuse_volume
    [ -p "$alive" ] || mkfifo -m 600 "$alive" 2>/dev/null
    [ ! -p "$alive" ] || [ -w "$alive" ] || refuse_volume
}

refuse_volume() {
    case $error in *': No space left on device' | *[Qq]'uota exceeded') die 74 "$error" ;; esac
    [ ! -e "$home" ] || die 65 "\`$home\` is damaged and cannot be replaced: mount the volume writable, for uid $(id -u)"
    folder=$versions; [ -d "$folder" ] || folder=$volume
    owner=$(stat -c %u "$folder" 2>/dev/null) || die 73 "cannot make \`$volume\`: mount a volume there"
    [ "$owner" != "$(id -u)" ] || die 73 "cannot write to \`$folder\`: mount it writable (${error:-its fifo is another user's})"
    die 73 "cannot write to \`$folder\`: it belongs to uid $owner and this runs as uid $(id -u): run it as user $owner, or give the folder to uid $(id -u)"
}

# Makes a claim, then removes what dead runs of any model have left; fails while another run copies this model.
claimed() {
    set -- "$versions"/.[0-9a-f]*.*
    [ "$1" != "$versions/.[0-9a-f]*.*" ] || set --      # not whether $1 exists: it may be gone by now, the next be there
    error=busy known=$last last=0
    for old; do case $old in */".$id".*) [ "${old##*.}" -gt "$last" ] 2>/dev/null && last=${old##*.} ;; esac done
    [ "$last" = "$known" ] || waited=0
    if [ $# -gt 0 ] && ! nobody_copies; then
        [ "$last" -eq 0 ] || [ ! -p "$alive" ] || [ $((waited += 1)) -gt "$patience" ] || return 1
        set --
    fi
    [ ! -p "$alive" ] || exec 9<>"$alive"
    mine=$versions/.$id.$((last + 1))
    error=$(umask 077 && mkdir "$mine" 2>&1) || { error=${error:-mkdir was killed} mine=''; exec 9>&-; return 1; }
    for old; do discard "$old" || :; done       # another run may have been faster
}

# Takes up to one second to say no. Opened for writing as well at first, or opening it would wait.
nobody_copies() {
    [ -p "$alive" ] || return
    timeout 1 cat 8<>"$alive" <"$alive" 8>&- >/dev/null 2>&1 &
    children=$!
    joined 2>/dev/null
}

# Renamed first: whoever might still use it fails instead of publishing what is left of it.
discard() { mv -T "$1" "$mine/old" 2>/dev/null && rm -rf "$mine/old"; }

# A run that was killed after it had published may have left a claim, with a replaced model in it.
tidy() {
    set -- "$versions"/.[0-9a-f]*.*
    [ -z "$mine" ] && [ -d "$1" ] && [ -w "$versions" ] && [ -w "$alive" ] && claimed
}

make_room() {
    needed=$((kib + 2047))                      # 1 MiB to spare, rounded up
    room || { [ ! -e "$home" ] || discard "$home"; room; } ||
        die 74 "\`$volume\` has $((free / 1024)) MiB free, the model needs $((needed / 1024)): make room, then retry"
}
room() { free=$(stat -f -c '%a * %S / 1024' "$volume") && free=$(($free)) && [ "$free" -ge "$needed" ]; }

copy() {
    cp -R "$models/." "$mine/model" &
    children=$!
    joined || { refuse_incomplete_image; die 74 "copying to \`$volume\` failed"; }
    find "$mine/model" -type f -print0 | xargs -0 -r chmod 0444 &&
        find "$mine/model" -type d -print0 | xargs -0 chmod 0755 || die 74 "cannot set modes in \`$volume\`"
    whole "$mine/model" || blame
    start_hashing "$mine/model"
    fsync "$mine" 2>/dev/null && flush=fsync || flush=sync      # `sync FILE` does the same
    find "$mine/model" -print0 | xargs -0 "$flush" &
    children="$children $!"
    joined || blame
}

# The copy is not what it should be: because the image is not, or because the volume does not keep what is written?
blame() {
    [ -d "$mine/model" ] || die 74 "the copy was removed from \`$volume\` while it was made: retry"
    refuse_incomplete_image
    verified "$models" || die 65 "these files of this image are damaged, pull it again: $(damaged)"
    die 74 "\`$volume\` does not keep what is written to it: look for disk errors, then retry"
}
refuse_incomplete_image() { whole "$models" || die 65 "\`$models\` does not hold the files that this image lists: mount nothing over it, or pull the image again"; }
damaged() { cd "$models" && sha256sum -c "$sums" 2>/dev/null | awk '!/: OK$/ && n++ < 5 { sub(/: FAILED.*/, ""); printf "%s ", $0 }'; }

# What is replaced goes with the claim: to remove it here would keep readers waiting.
publish() {
    [ ! -e "$home" ] || found || mv -T "$home" "$mine/replaced" 2>/dev/null
    mv -T "$mine/model" "$home" 2>/dev/null || found || die 74 "cannot rename the copy to \`$home\`"
    "$flush" "$versions" "$volume" || die 74 "cannot flush \`$versions\`"
}

pointed() { [ "$(readlink "$link")" = "v/$id" ]; }

# On a volume that cannot be written, a link may be missing, for jobs use the exact path; it must not name another model.
point_link() {
    pointed && return
    ln -sn "v/$id" "$next" 2>/dev/null
    [ "$(readlink "$next")" = "v/$id" ] && mv -T "$next" "$link" 2>/dev/null
    pointed || [ ! -L "$link" ] || die 73 "\`$link\` points at another model and cannot be changed: mount the volume writable"
}

clean_up() {
    [ -z "$children" ] || { kill $children; wait $children; } 2>/dev/null
    [ -z "$mine" ] || { rm -rf "$mine" 2>/dev/null; exec 9>&-; }
}

main
