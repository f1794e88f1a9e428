# Runs the examples: sh tests/examples.sh BUILD
set -u
build=$1
failed=0
same() {
    if [ "$2" = "$3" ]; then return; fi
    printf '%s: got "%s", not "%s"\n' "$1" "$2" "$3"
    failed=1
}

cat="$build/framecat"
same line "$(printf 'a\nb\\\r\n' | $cat line)" "1 a
2 b\\x5c"
same netstring "$(printf 'ab\n\nc\n' | $cat -e netstring line)" "2:ab,0:,1:c,"
same back "$(printf '2:ab,0:,1:c,' | $cat netstring)" "2 ab
0 
1 c"
same prefix "$(printf 'ab\n\n' | $cat -e prefix:4:little:whole line | $cat prefix:4:little:whole)" "2 ab
0 "
same dot "$(printf 'a\r\n..\r\n.\r\n' | $cat dot)" "6 a\\x0d\\x0a.\\x0d\\x0a"
same octet "$(printf '3 a\nb<1>x\n' | $cat mixed)" "3 a\\x0ab
4 <1>x"
for framing in line crlf nul 'delimiter:;' netstring prefix:1 prefix:8 varint mixed; do
    same "there and back: $framing" "$(printf 'one\n\nthree\n' | $cat -e "$framing" line | $cat -e line "$framing")" "one

three"
done
same "there and back: octet" "$(printf 'one\nthree\n' | $cat -e octet line | $cat -e line octet)" "one
three"
printf 'one\n\n' | $cat -e octet line >/dev/null 2>&1
same "an octet count of 0" $? 1
same blank "$(printf 'one\n\nthree\n' | $cat -e blank line | $cat blank)" "4 one\\x0a
0 
6 three\\x0a"
same discard "$(printf 'toolong\nab\n' | $cat -l 3 -d line 2>/dev/null)" "2 ab"
for input in '3:abcx' '1:a,2:b' '9:'; do
    printf "$input" | $cat -l 5 netstring >/dev/null 2>&1
    same "exit status of $input" $? 1
done
$cat nonsense 2>/dev/null </dev/null
same usage $? 64

same netstrings "$(printf '5:hello,0:,5:world,' | $build/netstrings)" "hello

world"
same "netstrings, slowly" "$({ printf '5:he'; sleep 0.1; printf 'llo,'; } | $build/netstrings)" "hello"
for input in '5:hello,0:' '01:a,' '9'; do
    printf "$input" | $build/netstrings >/dev/null 2>&1
    same "exit status of $input" $? 1
done

try_server() {
rm -f "$build/port"
"$build/$1" >"$build/port" &
server=$!
while [ ! -s "$build/port" ]; do sleep 0.05; done
port=$(cat "$build/port")
if command -v python3 >/dev/null; then
    python3 - "$port" <<'PYTHON' || failed=1
import socket, sys, threading
where = ("127.0.0.1", int(sys.argv[1]))
with socket.create_connection(where) as s:
    for byte in b"ab\r\ncd\n":
        s.sendall(bytes([byte]))
    s.shutdown(socket.SHUT_WR)
    got = b"".join(iter(lambda: s.recv(4096), b""))
    assert got == b"AB\nCD\n", got
with socket.create_connection(where) as s:  # 4 MB, read only when all is written
    lines = b"".join(b"line %d\n" % i for i in range(400000))
    sender = threading.Thread(target=lambda: (s.sendall(lines), s.shutdown(socket.SHUT_WR)))
    sender.start()
    got = b"".join(iter(lambda: s.recv(65536), b""))
    sender.join()
    assert got == lines.upper(), len(got)
with socket.create_connection(where) as s:
    s.sendall(b"x" * 9000)
    try:
        assert s.recv(10) == b""
    except ConnectionResetError:
        pass
PYTHON
fi
kill $server
wait $server 2>/dev/null
}
for program in epoll_upper mux_upper; do
    if [ -x "$build/$program" ]; then try_server $program; fi
done
[ $failed = 0 ] && echo "check-examples: in $build they do what they say"
exit $failed
