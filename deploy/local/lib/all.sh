# shellcheck shell=bash
# All of the library: small enough to be read as a whole by every script.

for part in common process ports accounts packages postgres rabbitmq s3; do
    # shellcheck source=/dev/null
    . "$(dirname "${BASH_SOURCE[0]}")/$part.sh"
done
unset part
