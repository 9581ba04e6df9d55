# shellcheck shell=bash
# A RabbitMQ node of our own in DIR, with its own epmd (Erlang's name service): nodes that shared one
# would see each other, and the one that came first would keep it alive after it stopped.

readonly RMQ_BIN=/usr/lib/rabbitmq/bin

# rmq_ports DIR PORT [MANAGEMENT_PORT]: writes down which ports the node uses; a restart finds them again.
rmq_ports() {
    local file=$1/rabbitmq.ports management=${3:-} distribution epmd _
    if [[ -f $file ]]; then
        read -r _ _ distribution epmd <"$file"
        [[ -n $management ]] || read -r _ management _ <"$file"
    fi
    [[ -n ${management:-} ]] && ! port_taken "$management" || management=$(free_port)
    [[ -n ${distribution:-} ]] && ! port_taken "$distribution" || distribution=$(free_port)
    [[ -n ${epmd:-} ]] && ! port_taken "$epmd" || runs "$1/epmd.pid" || epmd=$(free_port)
    printf '%s %s %s %s\n' "$2" "$management" "$distribution" "$epmd" >"$file"
}

rmq_config() {
    cat <<END
listeners.tcp.1 = 127.0.0.1:$1
management.tcp.ip = 127.0.0.1
management.tcp.port = $2
loopback_users.guest = true
log.console = true
log.console.level = info
collect_statistics_interval = 1000
vm_memory_high_watermark.absolute = 1GiB
disk_free_limit.absolute = 100MB
END
}

# rmq_environment DIR DISTRIBUTION_PORT EPMD_PORT: fills RMQ_ENV with all the node may know. What the
# machine has in /etc/rabbitmq belongs to another server: each of its files is named away.
rmq_environment() {
    local home=$1/rabbitmq conf=$1/rabbitmq-conf
    RMQ_ENV=(
        PATH=/usr/bin:/bin LC_ALL=C.UTF-8 "HOME=$home"
        RABBITMQ_NODENAME=upres@localhost
        "RABBITMQ_CONF_ENV_FILE=$conf/environment"
        "RABBITMQ_CONFIG_FILE=$conf/rabbitmq.conf"
        "RABBITMQ_ADVANCED_CONFIG_FILE=$conf/advanced.config"
        "RABBITMQ_ENABLED_PLUGINS_FILE=$conf/enabled_plugins"
        "RABBITMQ_MNESIA_BASE=$home/mnesia" "RABBITMQ_LOG_BASE=$home/log" RABBITMQ_LOGS=-
        "RABBITMQ_PID_FILE=$home/node.pid"
        "RABBITMQ_DIST_PORT=$2" "ERL_EPMD_PORT=$3" ERL_EPMD_ADDRESS=127.0.0.1
        # With input allowed the start script becomes the node instead of watching over it, so that the
        # process we record is the node; -noinput then takes the input away again.
        RABBITMQ_ALLOW_INPUT=1
        # Two schedulers that sleep when idle: a test machine has other things to do.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-noinput -kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
    )
}

rmq_configure() {
    local conf=$1/rabbitmq-conf
    mkdir -p -- "$conf"
    : >"$conf/environment"
    printf '[].\n' >"$conf/advanced.config"
    printf '[rabbitmq_management].\n' >"$conf/enabled_plugins"
    rmq_config "$2" "$3" >"$conf/rabbitmq.conf"
    # The caller's umask may be stricter than the node can bear.
    chmod -R go+rX -- "$conf"
    give_folder "$(account_of rabbitmq)" "$1/rabbitmq"
}

# The first byte of the answer to a protocol header is 1: a method frame.
amqp_answers() {
    local answer=
    {
        printf 'AMQP\x00\x00\x09\x01' >&3
        IFS= read -r -N 1 -t 2 answer <&3
    } 3<>"/dev/tcp/127.0.0.1/$1" 2>/dev/null || true
    [[ $answer == $'\x01' ]]
}

management_answers() {
    curl -fsS -m 2 -o /dev/null -u guest:guest "http://127.0.0.1:$1/api/overview" 2>/dev/null
}

rmq_answers() { amqp_answers "$1" 2>/dev/null && management_answers "$2"; }
rmq_answers_or_ended() { has_ended "$1/rabbitmq.pid" || rmq_answers "$2" "$3"; }

rmq_start_epmd() {
    local AS
    runs "$1/epmd.pid" && return
    as_account "$(account_of rabbitmq)"
    launch "$1/epmd.pid" "$3" "${AS[@]}" -i PATH=/usr/bin:/bin epmd -port "$2" -address 127.0.0.1
    wait_for 10 port_taken "$2" || { show_log "$3"; die "epmd did not start on port $2"; }
}

# rabbitmq_start DIR PORT LOG [MANAGEMENT_PORT]
rabbitmq_start() {
    local dir=$1 log=$3 port management distribution epmd AS RMQ_ENV
    open_folder "$(account_of rabbitmq)" "$dir"
    rmq_ports "$dir" "$2" "${4:-}"
    read -r port management distribution epmd <"$dir/rabbitmq.ports"
    rmq_configure "$dir" "$port" "$management"
    rmq_environment "$dir" "$distribution" "$epmd"
    rmq_start_epmd "$dir" "$epmd" "$log"
    as_account "$(account_of rabbitmq)"
    launch "$dir/rabbitmq.pid" "$log" "${AS[@]}" -i "${RMQ_ENV[@]}" "$RMQ_BIN/rabbitmq-server"
    wait_for 120 rmq_answers_or_ended "$dir" "$port" "$management" || true
    if has_ended "$dir/rabbitmq.pid" || ! rmq_answers "$port" "$management"; then
        show_log "$log"
        rabbitmq_stop "$dir"
        die "RabbitMQ did not start on port $port"
    fi
}

# rabbitmq_endpoints DIR
rabbitmq_endpoints() {
    local port management _
    read -r port management _ <"$1/rabbitmq.ports"
    printf 'AMQP_URL=amqp://guest:guest@127.0.0.1:%s\n' "$port"
    printf 'AMQP_MANAGEMENT_URL=http://guest:guest@127.0.0.1:%s\n' "$management"
}

rabbitmq_stop() {
    end_process "$1/rabbitmq.pid" TERM 60
    end_process "$1/epmd.pid" TERM 5
}

# The node alone. Its epmd stays for the next start; only a stop ends it.
rabbitmq_kill() { kill_with_children "$1/rabbitmq.pid"; }
