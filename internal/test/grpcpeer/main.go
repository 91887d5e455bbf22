// Command grpcpeer is a server and a client of gRPC for the end-to-end tests, made with grpc-go.
//
// It is a module of its own: who builds or imports the program gets none of grpc-go.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "grpcpeer:", err)
		os.Exit(1)
	}
}

func run() error {
	s := server{}
	c := client{}
	listen := flag.String("listen", "", "serve at this address")
	flag.StringVar(&s.file, "log", "", "append a line for each call that ends to this file")
	flag.DurationVar(&s.pause, "pause", 0, "wait so long before each answer")
	flag.DurationVar(&s.ping, "ping", time.Hour, "send a ping after so long without a frame")
	flag.DurationVar(&s.age, "age", 0, "send GOAWAY on each connection after so long")
	flag.IntVar(&s.renew, "renew", 0, "send GOAWAY on each connection after so many calls")
	flag.IntVar(&s.table, "table", -1, "allow clients so large a table of headers; -1: the usual")
	flag.IntVar(&s.code, "code", 5, "answer calls that fail with this status")
	flag.StringVar(&s.text, "message", "there is none", "and with this message")
	flag.StringVar(&s.changed, "changed", "", "change the last answer of calls of this kind")
	flag.StringVar(&c.address, "call", "", "make calls to this address")
	flag.StringVar(&c.name, "name", "", "begin the names of calls with this")
	flag.IntVar(&c.conns, "conns", 1, "do all of it over so many connections, one after the other")
	flag.IntVar(&c.rounds, "rounds", 10, "make so many calls of each kind")
	flag.StringVar(&c.kinds, "kinds", "unary,up,down,both,push,cancel,fail",
		"make calls of these kinds, side by side")
	flag.BoolVar(&c.late, "late", false, "make another call before these, which says when it is "+
		"in its middle, and goes on at SIGHUP")
	flag.DurationVar(&c.idle, "idle", 0, "wait so long in the middle of calls in both directions")
	flag.Parse()
	switch {
	case *listen != "":
		return s.serve(*listen)
	case c.address != "":
		return c.run()
	}
	return fmt.Errorf("wanted -listen or -call")
}

// codec passes messages as they are.
type codec struct{}

func (codec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (codec) Unmarshal(p []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), p...)
	return nil
}

func (codec) Name() string { return "bytes" }
