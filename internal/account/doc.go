// Package account groups what people and machines read about a run: package export makes the text
// and JSON of a run's state, and package status serves that state on a socket.
//
// The packages import core and proto. They never compute anything that the run itself needs.
//
// Read export/snapshot.go first.
package account
