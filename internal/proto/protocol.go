package proto

// Protocol is what a session must have of a protocol; the readers of answers are made where the answers are.
type Protocol struct {
	Kind Kind
	// Recognise looks at the first bytes of both sides: the client's, and production's server's as far as they
	// were captured; nil of a connection found under way.
	Recognise func(client, server []byte) Verdict
	// NewClient makes the reader of one session.
	NewClient func() Client
}
