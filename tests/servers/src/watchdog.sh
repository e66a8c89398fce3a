# Owns one server's directory and outlives the test process. Standard input is a pipe from that process and never carries a byte:
# the end of file says that the process is gone, however it went. $1 is the signal that ends the server.
umask 077
template=test-servers.XXXXXXXX
dir=$(mktemp -d "${TMPDIR:-/tmp}/$template" 2>/dev/null || mktemp -d "/tmp/$template") || exit 1
signal=$1

# A zombie has ended, though in a container whose first process reaps nobody it stays for good.
is_alive() {
    kill -s 0 "$pid" && ! grep -qs '^State:[[:space:]]*[ZX]' "/proc/$pid/status"
}

finish() {
    trap '' TERM INT HUP
    # Nothing can be started in the directory once it has another name, so the pid read next is the last there will be.
    mv "$dir" "$dir.ending"
    if read -r pid <"$dir.ending/pid"; then
        kill -s "$signal" "$pid"
        kill -s CONT "$pid"
        tries=0
        while is_alive && [ "$tries" -lt 80 ]; do
            sleep 0.1
            tries=$((tries + 1))
        done
        kill -s KILL "$pid"
    fi
    # A dying server may still write while its files are removed.
    tries=0
    until rm -rf "$dir.ending" || [ "$tries" -ge 50 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    exit 0
}

trap finish TERM INT HUP
echo "$dir"
exec >/dev/null 2>&1
read -r _
finish
