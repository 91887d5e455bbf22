package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// client makes calls, all of them over each connection.
type client struct {
	address string
	name    string
	conns   int
	rounds  int
	kinds   string
	idle    time.Duration
	late    bool

	conn *grpc.ClientConn
}

// lateKind is the kind of call that waits for a signal in its middle. It has no name and no
// deadline: those of later calls then are fields whose names no earlier header block has.
const lateKind = "late"

// limit is how long all calls may take.
const limit = 2 * time.Minute

// run makes all calls over one connection after the other.
func (c *client) run() error {
	for range c.conns {
		if err := c.callAll(); err != nil {
			return err
		}
	}
	return nil
}

// callAll makes the calls of each kind one after the other, and all kinds side by side.
func (c *client) callAll() error {
	conn, err := grpc.NewClient("passthrough:///"+c.address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{})))
	if err != nil {
		return err
	}
	defer conn.Close()
	c.conn = conn
	if c.late {
		if err := c.call(lateKind, 0); err != nil {
			return fmt.Errorf("%s: %w", lateKind, err)
		}
	}
	kinds := strings.Split(c.kinds, ",")
	done := make(chan error, len(kinds))
	for _, kind := range kinds {
		go func() {
			for i := range c.rounds {
				if err := c.call(kind, i); err != nil {
					done <- fmt.Errorf("%s %d: %w", kind, i, err)
					return
				}
			}
			done <- nil
		}()
	}
	for range kinds {
		err = errors.Join(err, <-done)
	}
	return err
}

// text is the content of a message.
func text(kind string, call, message int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%s.%d.%d ", kind, call, message),
		1+(call*message*37)%2000)
}

// call makes one call.
func (c *client) call(kind string, i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if kind == lateKind {
		ctx = context.WithoutCancel(ctx)
	} else {
		ctx = metadata.AppendToOutgoingContext(ctx, "name", fmt.Sprintf("%s/%s/%d", c.name, kind,
			i))
	}
	desc := &grpc.StreamDesc{StreamName: kind, ClientStreams: true, ServerStreams: true}
	s, err := c.conn.NewStream(ctx, desc, "/test.Peer/"+kind)
	if err != nil {
		return err
	}
	messages, answers := 1, 1
	switch kind {
	case "both", "cancel", lateKind:
		messages = 10
	case "push":
		messages, answers = 5, 0 // they are read at the end
	case "up":
		messages, answers = 20, 0
	case "down":
		answers = downs
	case "fail":
		answers = 0
	}
	for n := range messages {
		m := text(kind, i, n)
		if err := s.SendMsg(&m); err != nil {
			return err
		}
		for range answers {
			var got []byte
			if err := s.RecvMsg(&got); err != nil {
				return err
			}
			if !bytes.Equal(got, m) {
				return fmt.Errorf("message %d has another answer", n)
			}
		}
		if kind == "push" {
			time.Sleep(10 * time.Millisecond) // the server goes on meanwhile
		}
		if kind == "both" && n == messages/2 {
			time.Sleep(c.idle)
		}
		if kind == lateKind && n == messages/2 {
			goOn := make(chan os.Signal, 1)
			signal.Notify(goOn, syscall.SIGHUP)
			fmt.Println("in the middle")
			<-goOn
		}
	}
	if kind == "cancel" {
		cancel()
		return nil
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		var m []byte
		switch err := s.RecvMsg(&m); {
		case err == nil:
		case err == io.EOF, kind == "fail" && status.Code(err) == codes.NotFound:
			return nil
		default:
			return err
		}
	}
}
