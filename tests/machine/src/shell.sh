# shellcheck shell=dash
# Runs the lines that come over the second serial line, one after the other; says how each ended.
echo ready
while read -r line; do
    /usr/bin/sh -c "$line" </dev/null
    printf '\n= %s\n' "$?"
done </dev/ttyS1
