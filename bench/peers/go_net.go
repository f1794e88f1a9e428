// Lines with Go's net and bufio, one goroutine a connection.
//
//	go run go_net.go tcp://127.0.0.1:0 | unix:/path  upper | echo | count
package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
)

var counted atomic.Uint64

// upper changes ASCII in place, as the other servers do; bytes.ToUpper makes a copy.
func upper(line []byte) {
	for i, c := range line {
		if 'a' <= c && c <= 'z' {
			line[i] = c - 32
		}
	}
}

// readLine returns a line with its newline; it is valid until the next call, unless it did not fit in the buffer.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	long := append([]byte(nil), line...)
	rest, err := in.ReadBytes('\n')
	return append(long, rest...), err
}

func serve(peer net.Conn, service string) {
	defer peer.Close()
	in, out := bufio.NewReader(peer), bufio.NewWriter(peer)
	for {
		line, err := readLine(in)
		if err != nil {
			return
		}
		switch {
		case service == "count" && string(line) == "?\n":
			fmt.Fprintln(out, counted.Load())
		case service == "count":
			counted.Add(1)
		case service == "upper":
			upper(line)
			out.Write(line)
		default:
			out.Write(line)
		}
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}

func main() {
	network, address, _ := strings.Cut(os.Args[1], ":")
	listener, err := net.Listen(network, strings.TrimPrefix(address, "//"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(71)
	}
	port := 0
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok {
		port = tcp.Port
	}
	fmt.Println("listening", port)
	for {
		peer, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(71)
		}
		go serve(peer, os.Args[2])
	}
}
