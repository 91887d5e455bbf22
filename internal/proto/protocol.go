package proto

// Protocol is what a session must have of a protocol; the readers of answers are made where the answers are.
type Protocol struct {
	Kind Kind
	// Recognise looks at the first bytes of both sides: the client's, and production's server's as far as they
	// were captured; nil of a connection found under way.
	Recognise func(client, server []byte) Verdict
	// NewClient makes the reader of one session.
	NewClient func() Client
	// Watch makes readers that change nothing, for what production's own client and server say to each other; nil
	// where nobody reads that.
	Watch func() (Client, Answers)
}
