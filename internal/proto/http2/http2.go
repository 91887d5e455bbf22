// Package http2 reads HTTP/2 (RFC 9113), as it is spoken without TLS, and makes the copy a client
// of its own. Clients know that their server speaks it, or ask for it in HTTP/1 (upgrade.go).
//
// Compression, flow control, settings and pings belong to one connection, so the client's frames
// are of no use to another server. The copy sends its own preface, and waits for the target's
// SETTINGS. It decodes the client's header blocks and encodes them afresh, numbers the streams
// anew, sends what the target's windows, frame size and number of streams permit, and answers the
// target's SETTINGS and pings itself.
//
// A stream is opened when the streams have ended at the target that its client had seen end: a
// client that has seen an answer may have used it. Streams wait for nothing else. If production's
// frames are not captured, a client that has seen more of the server may have seen the end of any
// stream that it had opened, so the next stream waits for all of these.
//
// In a call of gRPC, content waits as well: until the target has sent as many messages in the same
// stream as the client had seen, as proto.Lockstep has it. Other streams do not wait for it.
//
// A stream for WebSocket (RFC 8441) is read by a websocket.Client of its own, which decides what of
// its content goes, and when.
//
// Files: client.go reads the client's frames, fields.go its header blocks, settings.go its options;
// streams.go decides what goes, call.go which messages of calls do, socket.go what does of streams
// for WebSocket; target.go reads the target's frames, which answers.go hands back from where they
// are; production.go finds where production's streams and messages end, contents.go what is on its
// streams for WebSocket, messages.go where messages end in frames, text.go what the account tells
// of errors. For the account of production, and for comparisons, frames.go reads frames and changes
// nothing: watch.go finds requests and answers, digest.go what answers contain, and label.go what
// requests are for.
package http2

import (
	"fmt"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

// Kind is the number of HTTP/2.
const Kind proto.Kind = 4

// http1Kind is the number of HTTP/1, whose options hold for HTTP/2 too.
const http1Kind proto.Kind = 1

// Protocol describes HTTP/2.
var Protocol = &proto.Protocol{
	Kind: Kind, Name: "http2", Recognise: Recognise, Class: class, Shares: http1Kind,
	NewClient:    func() proto.Client { return NewClient(&Settings{}) },
	NewAnswers:   func() proto.Answers { return NewAnswers() },
	NewSettings:  func() proto.Settings { return new(Settings) },
	NewClientFor: func(s proto.Settings) proto.Client { return NewClient(s.(*Settings)) },
	Watch:        func() (proto.Client, proto.Answers) { return new(watcher), newWatchedAnswers() },
	Comparison:   comparison,
}

// The reasons that HTTP/2 brings to the account.
var (
	hpackUnknown = ledger.DefineReason("hpack_unknown", "HTTP/2: a request whose headers refer to "+
		"some that were sent before the copy began", false)
	connectUnsupported = ledger.DefineReason("connect_unsupported", "HTTP/2: WebSocket, which the "+
		"target does not offer in HTTP/2", false)
	streamUnknown = ledger.DefineReason("stream_unknown", "HTTP/2: the rest of a request that "+
		"began before the copy", false)
)

// grpcBase and grpcMost tell a gRPC call's status from that of HTTP: Answer.Status is
// grpcBase+status.
const (
	grpcBase = proto.GRPCStatus
	grpcMost = uint16(len(grpcCodes))
)

// grpcCodes are the names of gRPC's status codes, in order.
var grpcCodes = [...]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED",
	"NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
	"DATA_LOSS", "UNAUTHENTICATED"}

// grpcClasses are the classes of gRPC's status codes; the last is of any other.
var grpcClasses = func() (all [grpcMost + 1]ledger.Class) {
	for i, name := range grpcCodes {
		all[i] = ledger.DefineClass(fmt.Sprintf("grpc %d", i), name)
	}
	all[grpcMost] = ledger.DefineClass("grpc ?", "a status that gRPC does not have")
	return all
}()

func class(a *proto.Answer) ledger.Class {
	if a.Status >= grpcBase {
		return grpcClasses[min(a.Status-grpcBase, grpcMost)]
	}
	return semantics.Class(a)
}

// failed reports whether the status is that of an error.
func failed(status uint16) bool { return status >= 400 && status != grpcBase || status == 0 }

// Recognise recognises a client that knows that its server speaks HTTP/2, by the whole preface, and
// one whose server has accepted an upgrade.
func Recognise(client, server []byte) proto.Verdict {
	n := min(len(client), len(preface))
	switch {
	case string(client[:n]) != preface[:n]:
		return recogniseUpgrade(client, server)
	case n < len(preface):
		return proto.Unsure
	default:
		return proto.Yes
	}
}
