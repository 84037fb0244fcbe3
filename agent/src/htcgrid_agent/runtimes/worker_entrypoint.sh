#!/bin/sh
# Keeps the workers of a pod running, one runtime per place, in a container of their own beside the agent's.
#
#   HTCGRID_WORKERS       how many places (the same number as the agent's)
#   HTCGRID_WORKER_DIR    folder that both containers see, for the pipes over which the agent stops a runtime; where the
#                         two have different users it belongs to a group that both are in, and gives that to new files
#   HTCGRID_RUNTIME_PORT  the agent's first port; the worker in place n talks to the n-th after it
#   "$@"                  the program that speaks the Lambda Runtime API: a bootstrap, or a runtime client and its handler
#
# Each place has a temporary folder of its own (TMPDIR), which is emptied when its runtime ends.
#
# Needs a POSIX shell, cat, mkdir, mkfifo, rm and sleep, so that it runs in nearly any image. Where there are also find,
# sort, readlink and sha256sum, the agent is told which version of the function runs.
set -eu
# As the first process of a container it would not hear what it has no handler for, and a pod that goes before all is
# started would stay for its whole grace period.
trap 'exit 0' TERM INT
: "${HTCGRID_WORKERS:?}" "${HTCGRID_WORKER_DIR:?}" "${HTCGRID_RUNTIME_PORT:?}" "${1:?names no program}"

# What belongs to the grid is none of the function's business, credentials least of all. With what a process began
# stays readable in /proc, so this one begins again without them.
began_with=
for name in AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE AWS_ROLE_ARN \
    AWS_WEB_IDENTITY_TOKEN_FILE AWS_CONTAINER_CREDENTIALS_FULL_URI AWS_CONTAINER_CREDENTIALS_RELATIVE_URI \
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE AWS_CONTAINER_AUTHORIZATION_TOKEN; do
    if eval "[ -n \"\${$name+set}\" ]"; then
        unset "$name"
        began_with=$name
    fi
done
[ -z "$began_with" ] || exec /bin/sh "$0" "$@"

workers=$HTCGRID_WORKERS
folder=$HTCGRID_WORKER_DIR
port=$HTCGRID_RUNTIME_PORT
unset HTCGRID_WORKERS HTCGRID_WORKER_DIR HTCGRID_RUNTIME_PORT
export AWS_LAMBDA_FUNCTION_NAME="${AWS_LAMBDA_FUNCTION_NAME:-htcgrid-function}"
export AWS_LAMBDA_FUNCTION_VERSION="${AWS_LAMBDA_FUNCTION_VERSION:-\$LATEST}"
export AWS_LAMBDA_FUNCTION_MEMORY_SIZE="${AWS_LAMBDA_FUNCTION_MEMORY_SIZE:-1769}"
export AWS_LAMBDA_LOG_GROUP_NAME="/aws/lambda/$AWS_LAMBDA_FUNCTION_NAME"
export AWS_LAMBDA_INITIALIZATION_TYPE=on-demand
export LAMBDA_TASK_ROOT="${LAMBDA_TASK_ROOT:-$PWD}"
cd "$LAMBDA_TASK_ROOT"

pipe() {
    # The umask too, since the mode may be set only after the pipe is there.
    [ -p "$1" ] || (umask 007 && mkfifo -m 660 "$1") 2>/dev/null || [ -p "$1" ]
}

# The digest of the function's files, as `function_digest.py` has it; nothing where a tool is missing.
digest() {
    for tool in find sort readlink sha256sum; do
        command -v "$tool" >/dev/null || return 0
    done
    list() {
        find . \( -name __pycache__ -o -name .git \) -type d -prune -o "$@"
    }
    {
        list -type f -exec sha256sum {} +
        list -type f \( -perm -100 -o -perm -010 -o -perm -001 \) -print | while IFS= read -r file; do
            printf 'x %s\n' "$file"
        done
        list -type l -print | while IFS= read -r link; do
            printf '%s -> %s\n' "$link" "$(readlink "$link")"
        done
    } | LC_ALL=C sort | sha256sum
}
version=$(digest)
version=${version%"${version#????????????????}"}

# Does anybody listen at this port, given in hexadecimal digits? Where that cannot be seen, the runtime finds out.
is_open() {
    [ -r /proc/net/tcp ] || return 0
    while read -r _ address _ state _; do
        case "$address $state" in
        *":$1 0A") return 0 ;;
        esac
    done </proc/net/tcp
    return 1
}

# Kill the runtime of a place and all that it started: they share a variable that nobody else has.
kill_all() {
    for process in /proc/[0-9]*; do
        case $(cat "$process/environ" 2>/dev/null) in
        *"HTCGRID_PLACE=<$1>"*) kill -9 "${process#/proc/}" 2>/dev/null || : ;;
        esac
    done
}

keep() {
    number=$1
    shift
    place=$folder/$number
    temporary=${TMPDIR:-/tmp}/htcgrid-worker-$number
    pipe "$place.orders"
    pipe "$place.news"
    # Open for both directions, so that opening waits for nobody, and the orders always have a reader.
    exec 3<>"$place.orders" 4<>"$place.news"
    (
        trap '' TERM
        while read -r word <&3; do
            [ "$word" != kill ] || kill_all "$place"
        done
    ) &
    listener=$!
    ending=
    trap 'ending=1' TERM
    agent=$((port + number))
    while [ -z "$ending" ]; do
        [ -z "$version" ] || echo "function $version" >&4
        # Without its agent a runtime would only fail, and begin again.
        looks=0
        until [ -n "$ending" ] || is_open "$(printf %04X "$agent")"; do
            [ "$looks" != 0 ] || echo "Worker $number waits for its agent, which is to listen at port $agent." >&2
            looks=$((looks + 1))
            if [ "$looks" -lt 50 ]; then sleep 0.2; else sleep 1; fi
        done
        [ -z "$ending" ] || break
        (
            # SIGTERM is for the agent to act on: the runtime finishes its task, and ends when the agent does.
            trap '' TERM
            exec 3<&- 4<&-
            export AWS_LAMBDA_RUNTIME_API="127.0.0.1:$((port + number))"
            export AWS_LAMBDA_LOG_STREAM_NAME="worker-$number"
            export HTCGRID_PLACE="<$place>"
            mkdir -p -m 700 "$temporary"
            export TMPDIR="$temporary" HOME="$temporary"
            exec "$@"
        ) &
        runtime=$!
        echo started >&4
        # A trapped signal ends the wait, but not the runtime.
        while wait "$runtime" && code=0 || code=$?; kill -0 "$runtime" 2>/dev/null; do :; done
        kill_all "$place"
        rm -rf "$temporary"
        echo "exited $code" >&4
        # The handler may be broken: not a busy loop.
        [ -n "$ending" ] || sleep 0.2
    done
    kill -9 "$listener"
}

number=0
places=
while [ "$number" -lt "$workers" ]; do
    keep "$number" "$@" &
    places="$places $!"
    number=$((number + 1))
done
trap 'for place in $places; do kill -TERM "$place" 2>/dev/null || :; done' TERM INT
for place in $places; do
    while wait "$place" || :; kill -0 "$place" 2>/dev/null; do :; done
done
