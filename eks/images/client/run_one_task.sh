#!/bin/sh
# htcgrid-run-one-task PROFILE EVENT [OPTION…]: runs one task through a grid and prints its result, as a test of a pool.
# Exits with 0 only if the task completed.
#
#   PROFILE   the grid's profile, a file that need not belong to this user, such as one of a Kubernetes secret
#   EVENT     the task, as JSON
#   OPTION…   those of `htcgrid submit`, such as --partition
set -eu
profile=${1:?names no profile}
event=${2:?has no event}
shift 2
# A profile with a password is used only by its owner, and in a pod the files of a secret belong to root.
export HTCGRID_HOME="${HTCGRID_HOME:-${TMPDIR:-/tmp}/htcgrid}"
mkdir -p -m 700 "$HTCGRID_HOME"
install -m 600 "$profile" "$HTCGRID_HOME/profile.json"
unset HTCGRID_PROFILE
printf '%s\n' "$event" >"$HTCGRID_HOME/one-task.jsonl"
exec htcgrid submit "$HTCGRID_HOME/one-task.jsonl" --follow "$@"
