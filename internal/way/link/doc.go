// Package link is the framed, authenticated connection that copiers, intercepts and agents share:
// its two ends, how each is set up, and the copier's links to its intercepts.
//
// An Endpoint is one end of a connection whose peer has proved the key and introduced itself. It
// receives frames, answers pings, queues frames for its writer up to a bound, and ends with a Bye.
// A Dialer makes the end that connects, a Server the end that accepts. Both translate the failures
// that a user can correct (a missing key, another key, another program) into errors and log lines
// that say so. What the frames mean is their users' own: package intercept serves copiers, package
// source/agents serves agents, and package source/agent connects to a copier.
//
// A Link is a copier's connections to one intercept, which it makes again after every failure. A
// Group is all links of one copier, which share a Slot. Codec and key are packages wire and key.
//
// Read endpoint.go first, then dial.go and accept.go, then link.go.
package link
