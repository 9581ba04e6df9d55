# shellcheck shell=bash
# Programs of others that two stories need: schemathesis, which holds the API against its description,
# and a browser. Where one cannot be had its story says that it was skipped.

readonly SCHEMATHESIS='schemathesis==4.32.5'

# need_test_tools: installs them under target/ and tells the stories in the environment where they are.
need_test_tools() {
    need_schemathesis || say "the contract story will be skipped: no schemathesis"
    need_browser || say "the console's story will be skipped: no browser"
}

need_schemathesis() {
    local home=$ROOT/target/schemathesis
    if [[ $(cat "$home/installed" 2>/dev/null) != "$SCHEMATHESIS" ]]; then
        python3 -c 'import ensurepip' 2>/dev/null || (install_packages python3 python3-venv) || return 1
        say "installing $SCHEMATHESIS into $home"
        rm -rf -- "$home"
        mkdir -p -- "$ROOT/target"
        python3 -m venv "$home" && "$home/bin/pip" install -q "$SCHEMATHESIS" >"$home/pip.log" 2>&1 || return 1
        printf '%s\n' "$SCHEMATHESIS" >"$home/installed"
    fi
    export UPRES_TEST_SCHEMATHESIS=$home/bin/st
}

need_browser() {
    present chromium || (install_packages chromium) || return 1
    present node && present npm || (install_packages nodejs npm) || return 1
    local home=$ROOT/target/playwright lock=$ROOT/tests/browser/package-lock.json
    if ! cmp -s -- "$lock" "$home/installed.json"; then
        say "installing playwright-core into $home"
        mkdir -p -- "$home"
        cp -- "$ROOT/tests/browser/package.json" "$lock" "$home/"
        (cd "$home" && npm ci --no-audit --no-fund >npm.log 2>&1) || return 1
        cp -- "$lock" "$home/installed.json"
    fi
    UPRES_TEST_CHROMIUM=$(command -v chromium)
    UPRES_TEST_NODE=$(command -v node)
    UPRES_TEST_PLAYWRIGHT=$home
    export UPRES_TEST_CHROMIUM UPRES_TEST_NODE UPRES_TEST_PLAYWRIGHT
}
