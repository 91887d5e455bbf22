// Package e2e is the end-to-end tests: the built program between real servers and real clients,
// each host a network namespace of its own.
//
// What a test asserts is what the target's own log or data shows, held against production's; the
// copier's report must balance and say the same. Nothing here reads a packet, a counter or a table
// of the copier from the inside, and nothing asserts how long something took. It has tests only;
// nothing imports it.
package e2e
