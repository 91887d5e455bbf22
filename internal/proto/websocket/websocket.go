// Package websocket reads WebSocket (RFC 6455) on connections of HTTP/1 that are upgraded to it,
// and makes the copy a client of its own.
//
// Until the upgrade the connection is one of HTTP/1: a request waits until the target has answered
// all that precede it. From the upgrade on, the client's messages go in order, in the client's own
// frames and with its masks. The copy answers the target's pings itself; the client's pongs, which
// answer production's, do not go. If production has accepted compression and the target has not, or
// has with less memory, the client's messages are inflated.
//
// A turn waits until the target has sent as many messages as its client had seen of production. How
// many messages a server pushes is not the client's doing: once either server has sent one unasked,
// no turn of the connection goes more than a second later than its client sent it. If production's
// frames are not captured, a turn waits for one message since the turn before it.
//
// Files: client.go reads the client's bytes, handshake.go what both sides say before the first
// frame, deflate.go inflates; queue.go holds what waits, and decides when it goes; target.go reads
// the target's bytes, which answers.go hands back from where they are; production.go counts
// production's messages. With stream.go a Client reads a stream of HTTP/2 (RFC 8441).
package websocket

import (
	"bytes"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/proto/semantics"
)

// Kind is the number of WebSocket.
const Kind proto.Kind = 5

// Protocol describes WebSocket. Its settings are those of HTTP/1, with which it begins.
var Protocol = &proto.Protocol{
	Kind: Kind, Name: "websocket", Recognise: Recognise, Class: semantics.Class, Shares: http1.Kind,
	NewClient:  func() proto.Client { return NewClient(nil) },
	NewAnswers: func() proto.Answers { return NewAnswers() },
	Watch:      http1.Protocol.Watch,
	NewClientFor: func(s proto.Settings) proto.Client {
		if s.Empty() {
			return NewClient(nil)
		}
		return NewClient(s.(*semantics.Rules))
	},
}

// The reasons that WebSocket brings to the account.
var (
	upgradeDiffers = ledger.DefineReason("upgrade_differs", "WebSocket: of production and target "+
		"one has accepted the upgrade, and the other has not", false)
	extensionDiffers = ledger.DefineReason("extension_differs", "WebSocket: production and target "+
		"have agreed to different extensions, which cannot be undone", false)
	upgradeUnknown = ledger.DefineReason("upgrade_unknown", "WebSocket: the connection was "+
		"upgraded before the copy began", false)
	tooLarge = ledger.DefineReason("inflates_too_large", "WebSocket: a compressed message, "+
		"which the target cannot inflate, is too large to be inflated for it", false)
)

// refuse returns the error that ends the copy for a reason, and every other one of the connection.
func refuse(why ledger.Reason) error { return &proto.Refusal{Reason: why, Final: true} }

// Recognise recognises a client whose first request asks for an upgrade to WebSocket.
func Recognise(client, server []byte) proto.Verdict {
	const method, form = "GET ", "HTTP/1."
	if n := min(len(client), len(method)); string(client[:n]) != method[:n] {
		return proto.No
	}
	if n := min(len(server), len(form)); string(server[:n]) != form[:n] {
		return proto.No
	}
	end := bytes.LastIndexByte(client, '\n') + 1
	var h handshake
	whole := h.read(client[:end])
	switch {
	case end > 0 && !h.http:
		return proto.No
	case h.asks():
		return proto.Yes
	case whole:
		return proto.No
	}
	return proto.Unsure
}
