# shellcheck shell=bash
# Processes we started, each remembered by a record: process id, start time, boot. A process id alone
# is soon given to a stranger; nothing is signalled unless all three still agree.

start_time_of() {
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The program's name, field 2, may hold spaces and brackets: count from the last one.
    read -ra fields <<<"${stat##*) }"
    # A zombie has ended; its parent has merely not looked yet.
    [[ ${fields[0]} != Z ]] && printf '%s\n' "${fields[19]}"
}

this_boot() { cat /proc/sys/kernel/random/boot_id; }

# record_process FILE PID
record_process() {
    local start
    start=$(start_time_of "$2") || return 1
    printf '%s %s %s\n' "$2" "$start" "$(this_boot)" >"$1.new"
    mv -f -- "$1.new" "$1"
}

# recorded_pid FILE: prints the process id if that very process still runs.
recorded_pid() {
    local pid start boot
    [[ -f $1 ]] && read -r pid start boot <"$1" || return 1
    [[ $boot == "$(this_boot)" && $(start_time_of "$pid") == "$start" ]] || return 1
    printf '%s\n' "$pid"
}

runs() { recorded_pid "$1" >/dev/null; }
has_ended() { ! runs "$1"; }

# launch RECORD LOG COMMAND...: runs COMMAND detached from this shell, terminal and working folder.
# The command must become the program itself (exec, no wrapper), or the record names the wrong one.
# Descriptor 9 is the lock of the script that calls; a service that kept it would hold it for ever.
launch() {
    local record=$1 log=$2
    shift 2
    (cd / && exec setsid "$@") </dev/null >>"$log" 2>&1 9>&- &
    # One that ended at once leaves no record; whoever waits for it will say so.
    record_process "$record" "$!" || rm -f -- "$record"
}

# send_signal RECORD SIGNAL: quietly nothing if the process has ended.
send_signal() {
    local pid
    pid=$(recorded_pid "$1") || return 0
    kill "-$2" "$pid" 2>/dev/null || has_ended "$1"
}

# end_process RECORD SIGNAL SECONDS: asks with SIGNAL, insists with KILL.
end_process() {
    local record=$1
    send_signal "$record" "$2"
    if ! wait_for "$3" has_ended "$record"; then
        say "$(basename "$record" .pid) did not stop within $3 s: killed"
        send_signal "$record" KILL
        wait_for 10 has_ended "$record" || die "process $(recorded_pid "$record") does not end"
    fi
    rm -f -- "$record"
}

children_of() {
    local parent=$1 stat line fields
    for stat in /proc/[0-9]*/stat; do
        line=$(cat "$stat" 2>/dev/null) || continue
        read -ra fields <<<"${line##*) }"
        [[ ${fields[1]} != "$parent" ]] || printf '%s\n' "${line%% *}"
    done
}

pid_gone() { [[ ! -e /proc/$1 ]] || ! start_time_of "$1" >/dev/null; }

# kill_with_children RECORD: KILL for the process and its direct children, and waits for all of them.
kill_with_children() {
    local pid child children
    pid=$(recorded_pid "$1") || return 0
    # Stopped first: what does not run makes no more children while they are counted.
    kill -STOP "$pid"
    mapfile -t children < <(children_of "$pid")
    kill -KILL "$pid" "${children[@]}" 2>/dev/null || true
    for child in "$pid" "${children[@]}"; do
        wait_for 10 pid_gone "$child" || die "process $child does not end"
    done
    rm -f -- "$1"
}
