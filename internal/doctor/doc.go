// Package doctor names what keeps a copy from working: the host, the cause, how it shows, and the
// command that mends it.
//
// A check is one cause, in one file: its texts, and a judgement that takes facts and returns
// results. Diagnose runs all checks of a host, leaves out what is only the consequence of
// another cause, and sorts the rest along the path of a packet. Package collect gathers the facts.
//
// The packages of this group import core, source, sys and way; package app calls them. The package
// doctor itself is pure and imports none of ours. A check must never call unknown fine, and
// collecting facts must never change a host, or send anything that a client or production sees.
//
// Read check.go first, then facts.go.
package doctor
