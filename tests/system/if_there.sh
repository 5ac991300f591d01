#!/bin/sh
# if_there.sh PROGRAM COMMAND...: runs the command, or exits with 77 (CTest: skipped) if there is no
# such program.
program=$1
shift
if [ ! -x "$program" ]; then
  echo "skipped: $program is missing; scripts/test.sh makes it"
  exit 77
fi
exec "$@"
