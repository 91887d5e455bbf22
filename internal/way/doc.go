// Package way is the contract of a way to the targets, and what all ways share: how copies reach a
// target, seen from the engine, which knows no way by name.
//
// Below it lie the ways: socket (connections of this host's kernel), raw (TCP of our own, from the
// clients' addresses) and tunnel (an intercept on the target opens the connections there); and
// their parts: address (which address and port a copy comes from), intercepts (what raw and tunnel
// share), and link (the authenticated connection that copiers, intercepts and agents share).
// Package ways lists the ways. A new way is a package that implements Way, and a line there.
//
// The group may import core, proto, sys and source; never config, engine or app: a way gets its
// settings as Settings. Nothing here decides what is sent when (core/session does). Read way.go
// first.
package way
