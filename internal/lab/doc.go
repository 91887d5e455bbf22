// Package lab is tcpcopy lab: the demonstration, and the end-to-end test of the whole.
//
// It makes a small network on this machine (package netlab), starts a production server, a test
// server and clients in it, and runs the real copier and intercept between them, as processes with
// the arguments that a user would type. Then it compares what arrived. Servers and clients speak a
// protocol in which every request names itself and the answers that its client had seen. So a
// request that is missing, doubled, out of order, damaged or too early is found.
//
// Break (tcpcopy lab --break) makes a fault in such a network on purpose, and has the doctor
// examine it.
//
// The packages import core, account and sys; package app and the end-to-end tests call them. They
// must not look inside the copier: they know its command line, its "ready" line and its report.
//
// Read lab.go first.
package lab
