// Package account groups what people and machines read about a run: package export makes the text
// and JSON of a run's state, package metrics makes Prometheus metrics of it, and package status
// serves
// both on a socket. Package web decides who may read.
//
// The packages import core and proto. They never compute anything that the run itself needs. What
// two of them show at the same sequence number is the same.
//
// Read export/snapshot.go first.
package account
