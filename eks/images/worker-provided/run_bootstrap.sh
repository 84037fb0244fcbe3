#!/bin/sh
# Becomes the function's bootstrap, which is looked for where Lambda looks. $1, if given, is its handler.
set -eu
[ $# -eq 0 ] || export _HANDLER="$1"
for folder in "$LAMBDA_TASK_ROOT" /opt /var/runtime; do
    if [ -f "$folder/bootstrap" ] && [ -x "$folder/bootstrap" ]; then exec "$folder/bootstrap"; fi
done
echo "There is no executable file bootstrap in $LAMBDA_TASK_ROOT, /opt or /var/runtime." >&2
exit 1
