# shellcheck shell=bash
# The size of a picture, from its header.

# byte_values FILE OFFSET COUNT: prints bytes as numbers.
byte_values() { od -An -v -tu1 -j "$2" -N "$3" -- "$1"; }

# picture_size FILE: prints WIDTH HEIGHT of a PNG or a JPEG.
picture_size() {
    local bytes
    read -ra bytes < <(byte_values "$1" 0 4) || true
    case "${bytes[*]}" in
        '137 80 78 71') png_size "$1" ;;
        '255 216 255 '*) jpeg_size "$1" ;;
        *) return 1 ;;
    esac
}

png_size() {
    local b
    read -ra b < <(byte_values "$1" 16 8) && ((${#b[@]} == 8)) || return 1
    printf '%d %d\n' $(((b[0] << 24) + (b[1] << 16) + (b[2] << 8) + b[3])) \
        $(((b[4] << 24) + (b[5] << 16) + (b[6] << 8) + b[7]))
}

# Steps from marker to marker up to the frame header: C0 to CF, but for C4, C8 and CC.
jpeg_size() {
    local offset=2 b
    while read -ra b < <(byte_values "$1" "$offset" 9) && ((${#b[@]} == 9 && b[0] == 255)); do
        if ((b[1] >= 192 && b[1] <= 207 && b[1] != 196 && b[1] != 200 && b[1] != 204)); then
            printf '%d %d\n' $((b[7] * 256 + b[8])) $((b[5] * 256 + b[6]))
            return
        fi
        offset=$((offset + 2 + b[2] * 256 + b[3]))
    done
    return 1
}
