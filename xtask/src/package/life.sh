#!/bin/bash
# The package's life, inside of the machine of check.rs: `life.sh DEB LATER-DEB`. The first thing that is not as it should
# be ends it.
set -euo pipefail
deb=$1
later=$2

# What it started must not outlive it.
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

step() { printf '    %s\n' "$1"; }
fail() { printf 'FAILED: %s\n' "$1" >&2; exit 1; }
# until DEADLINE-SECONDS WHAT COMMAND...
until_true() {
    local limit=$1 what=$2
    shift 2
    for ((n = 0; n < limit * 10; n++)); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    fail "not within $limit s: $what"
}
property() { systemctl show brattice.service --property "$1" --value; }
engine() { brattice status --output json | python3 -c 'import json, sys; print(json.load(sys.stdin)["engine"]["pid"])'; }
programs() { brattice status --output json | python3 -c '
import json, sys
print(sorted((p["program"], p["attachedTo"], p["programId"], p["linkId"]) for p in json.load(sys.stdin)["programs"]))'; }

# Before: what must be there again after the purge.
find /etc /usr /var/lib /var/log -xdev \( -path /var/lib/dpkg -o -path /var/log/journal -o -path /var/cache \) -prune -o -print |
    grep -v -e '/__pycache__' -e '\.log$' -e /var/lib/systemd -e '^/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-$' | sort >/root/before
getent passwd | sort >/root/passwd.before
getent group | sort >/root/group.before

step "installed: users, units, manual; nothing is started"
dpkg --install "$deb" >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; fail "dpkg --install"; }
getent passwd brattice-engine >/dev/null || fail "no user brattice-engine"
getent group brattice >/dev/null || fail "no group brattice"
systemd-analyze verify --man=no brattice.service || fail "systemd-analyze verify"
[ "$(systemctl is-active brattice || true)" = inactive ] || fail "it was started"
[ -s /usr/share/man/man1/brattice-status.1.gz ] || fail "no page of status"
[ -s /usr/share/man/man5/brattice-agent.yaml.5.gz ] || fail "no page of agent.yaml"
[ -z "$(find /usr/share/man/man1 -name 'brattice*.5*')" ] || fail "a page of section 5 is in man1"
for section in "EXIT STATUS" EXAMPLES; do
    for page in status services flows; do
        zgrep -q "$section" "/usr/share/man/man1/brattice-$page.1.gz" || fail "no $section in the page of $page"
    done
    for page in agent.yaml documents; do
        zgrep -q "$section" "/usr/share/man/man5/brattice-$page.5.gz" || fail "no $section in the page of $page"
    done
done
[ -s /usr/share/doc/brattice/docs/policies.md ] || fail "no docs"
brattice validate /usr/share/doc/brattice/policies >/dev/null || fail "the packaged documents are not valid"
for example in /usr/share/doc/brattice/examples/*/; do
    brattice validate "$example" >/dev/null || fail "$example is not valid"
done
bash -n /usr/share/bash-completion/completions/brattice
told=$(brattice status 2>&1 || true)
[[ "$told" = *"systemctl start brattice"* ]] || fail "who has no agent is not told how it is started here: $told"
[ "$(stat -c %a /etc/brattice/policies)" = 750 ] || fail "mode of the policies directory"

step "two workloads and the example documents"
for name in blue1 green1; do
    ip netns add "$name"
    ip link add "$name" type veth peer name eth0 netns "$name"
    ip -n "$name" link set lo up
    ip -n "$name" addr add 10.0.0.10/16 dev eth0
    ip -n "$name" link set eth0 up
    ip link set "$name" up
    ip -n "$name" route add default dev eth0
done
ip netns exec green1 python3 - >/dev/null 2>&1 <<'PY' &
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
PY
mkdir -p /etc/brattice/policies/accounts/platform /etc/brattice/policies/accounts/shop
cat >/etc/brattice/policies/node.yaml <<'YAML'
kind: Account
metadata: {name: platform}
spec: {id: "111111111111"}
---
kind: Account
metadata: {name: shop}
spec: {id: "222222222222", domains: [shop.internal], vpcs: [platform/green]}
---
kind: Vpc
metadata: {name: blue}
spec: {account: platform, cidrBlocks: [10.0.0.0/16], attachments: [{interface: "blue*"}], serviceNetworks: [platform/retail]}
---
kind: Vpc
metadata: {name: green}
spec: {account: platform, cidrBlocks: [10.0.0.0/16], attachments: [{interface: "green*"}], serviceNetworks: [platform/retail]}
YAML
cat >/etc/brattice/policies/accounts/platform/retail.yaml <<'YAML'
kind: ServiceNetwork
metadata: {name: retail}
spec: {sharedWith: [shop]}
YAML
cat >/etc/brattice/policies/accounts/shop/orders.yaml <<'YAML'
kind: Service
metadata: {name: orders}
spec:
  customDomainNames: [orders.shop.internal]
  serviceNetworks: [platform/retail]
  listeners:
  - protocol: HTTP
    defaultAction: {forward: {targetGroups: [{targetGroupIdentifier: orders}]}}
---
kind: TargetGroup
metadata: {name: orders}
spec: {config: {vpcIdentifier: platform/green, port: 8080}, targets: [{id: 10.0.0.10}]}
YAML
brattice validate >/dev/null || fail "validate"
brattice preflight >/root/preflight.log 2>&1 || { cat /root/preflight.log; fail "preflight"; }

step "started: ready, watched, under all its restrictions"
systemctl enable --now brattice 2>/dev/null || fail "systemctl start"
[ "$(property SubState)" = running ] || fail "not running"
[[ "$(property StatusText)" = "serving, revision "* ]] || fail "status text: $(property StatusText)"
[ "$(property WatchdogUSec)" = 1min ] || fail "no watchdog"
brattice status >/dev/null || { brattice status; fail "status is not well"; }
vip=$(brattice services --output json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["vip"])')
call() { ip netns exec blue1 curl --silent --fail --max-time 2 --header "host: orders.shop.internal" "http://$vip/"; }
until_true 10 "blue calls green's service" call
journalctl --unit brattice --no-pager | grep -i -e "operation not permitted" -e "permission denied" && fail "something is refused to the service"
grep -q "^CapEff:[[:space:]]*0*$" "/proc/$(engine)/status" || fail "the engine has capabilities"

step "stopped: engine and kernel serve on"
first_engine=$(engine)
first_programs=$(programs)
systemctl stop brattice
call >/dev/null || fail "no service without an agent"
systemctl start brattice
[ "$(engine)" = "$first_engine" ] || fail "another engine after stop and start"
[ "$(programs)" = "$first_programs" ] || fail "other programs after stop and start"

step "the access log is rotated, and no line is lost"
echo "access-log: /var/log/brattice/access.log" >>/etc/brattice/agent.yaml
systemctl restart brattice
logged() { [ "$(cat /var/log/brattice/access.log* | grep -c '"requestMethod":"GET"')" -ge "$1" ]; }
call >/dev/null || fail "no service with a log"
until_true 5 "the request is logged" logged 1
logrotate --force --state /root/logrotate.state /etc/logrotate.d/brattice || fail "logrotate"
[ -s /var/log/brattice/access.log.1 ] || fail "the log was not rotated"
call >/dev/null || fail "no service after the rotation"
until_true 5 "the next one is logged to a new file" grep -q requestMethod /var/log/brattice/access.log
logged 2 || fail "a line is missing"

step "restarted and upgraded under load: not one request is lost, settings are kept"
echo "# mine" >>/etc/brattice/agent.yaml
cat >/root/load.py <<'PY'
import http.client, signal, sys, time
vip, stop, good, bad, last = sys.argv[1], [], 0, 0, ""
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
while not stop:
    try:
        connection = http.client.HTTPConnection(vip, 80, timeout=3)
        connection.request("GET", "/", headers={"host": "orders.shop.internal"})
        assert connection.getresponse().read() == b"ok\n"
        good += 1
    except Exception as error:
        bad, last = bad + 1, repr(error)
    finally:
        connection.close()
    time.sleep(0.005)
print(good, bad, last)
PY
ip netns exec blue1 python3 /root/load.py "$vip" >/root/load.out 2>&1 &
load=$!
sleep 0.5
systemctl restart brattice
systemctl reload brattice
systemctl kill --kill-whom=main --signal=KILL brattice
started_again() { [ "$(property NRestarts)" -ge 1 ]; }
until_true 15 "systemd starts a killed agent again" started_again
until_true 15 "it is ready" brattice status
dpkg --install "$later" >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; fail "upgrade"; }
brattice status >/dev/null || { brattice status; fail "status after the upgrade"; }
sleep 0.5
kill "$load"
wait "$load" || true
read -r good bad why </root/load.out
if [ "$bad" != 0 ] || [ "$good" -lt 50 ]; then fail "$good requests, $bad lost: $why"; fi
step "  $good requests, 0 lost"
grep -q "^# mine" /etc/brattice/agent.yaml || fail "the settings were overwritten"
[ "$(engine)" = "$first_engine" ] || fail "another engine after the upgrade"
[ "$(programs)" = "$first_programs" ] || fail "other programs after the upgrade"

step "the members of the group may ask, others may not"
useradd --no-create-home asker && useradd --no-create-home --groups brattice member
setpriv --reuid member --init-groups --regid member brattice services >/dev/null || fail "a member is refused"
setpriv --reuid asker --init-groups --regid asker brattice services >/dev/null 2>&1 && fail "any user may ask"
userdel asker && userdel member

step "an engine that is killed five times stays down, until it is restarted"
for failures in 1 2 3 4 5; do
    kill -KILL "$(engine)"
    state=$([ "$failures" = 5 ] && echo down || echo running)
    until_true 10 "the engine is $state" bash -c "brattice status --output json | python3 -c '
import json, sys
engine = json.load(sys.stdin)[\"engine\"]
sys.exit(engine[\"state\"] != \"$state\" or engine[\"restarts\"] != $failures)'"
done
code=0; brattice status >/dev/null || code=$?
[ "$code" = 2 ] || fail "status says $code"
until_true 5 "systemd is told" bash -c 'systemctl show brattice --property StatusText | grep -q "NOT SERVING"'
call >/dev/null 2>&1 && fail "the call is answered"
brattice engine restart >/dev/null || fail "engine restart"
until_true 10 "it serves again" call

step "a support bundle"
brattice support-bundle --out /root/bundle.tar.gz >/dev/null 2>/root/bundle.missing || fail "support-bundle"
tar -xzf /root/bundle.tar.gz -C /root
grep -q '"orders.shop.internal"' /root/brattice-support/services.json || fail "no services in the bundle"
grep -q 'engine started' /root/brattice-support/log.txt || fail "no log in the bundle"

step "removed: the host is as before, documents and settings are kept"
dpkg --remove brattice >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; fail "dpkg --remove"; }
ip link show brattice0 >/dev/null 2>&1 && fail "brattice0 is still there"
[ -z "$(ip route show table all proto 187)" ] || fail "routes are still there"
nft list tables | grep -w brattice && fail "an nft table is still there"
[ ! -e /sys/fs/bpf/brattice ] || fail "pins are still there"
pgrep -x brattice >/dev/null 2>&1 && fail "a process is still there"
grep -q "^# mine" /etc/brattice/agent.yaml || fail "the settings are gone"
[ -s /etc/brattice/policies/accounts/shop/orders.yaml ] || fail "the documents are gone"

step "purged: nothing is left"
dpkg --purge brattice >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; fail "dpkg --purge"; }
find /etc /usr /var/lib /var/log -xdev \( -path /var/lib/dpkg -o -path /var/log/journal -o -path /var/cache \) -prune -o -print |
    grep -v -e '/__pycache__' -e '\.log$' -e /var/lib/systemd -e '^/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-$' | sort >/root/after
getent passwd | sort | diff /root/passwd.before - || fail "users are left"
getent group | sort | diff /root/group.before - || fail "groups are left"
diff /root/before /root/after || fail "files are left"
