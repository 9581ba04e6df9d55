#!/usr/bin/env bash
# Stands in for nvcc: passes everything on, but compiles stand-ins (UPRES_LEFT_OUT) for the kernels of quantised
# language models. Part of build.sh.
set -euo pipefail

source=${!#}
output=
previous=
for argument in "$@"; do
    [[ $previous == -o ]] && output=$argument
    previous=$argument
done
case $source in
    # One object holds all of them; the others are empty.
    */moe/moe_gguf.cu)
        exec gcc -c -fPIC -x c "$UPRES_LEFT_OUT" -o "$output" ;;
    */moe/*.cu | */mmq_gguf/*.cu | */mmvq_gguf.cu)
        exec gcc -c -fPIC -x c /dev/null -o "$output" ;;
esac
exec "$UPRES_NVCC" "$@"
