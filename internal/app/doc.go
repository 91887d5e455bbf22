// Package app is the command line: one file for each command, and the help, the signals and the
// output that they share.
//
// Standard output carries what a command was asked for: help, version, a key, the final table.
// Standard error carries the rest: one line for what went wrong, "hint:" lines, warnings, the
// "ready" line, statistics and the log. The exit code is 2 for bad input, 3 for a missing
// privilege, and 1 for any other failure. The doctor's is 4 if it has found no cause and does not
// know everything.
//
// The package imports every other group; only cmd/tcpcopy imports it. It must not move packets or
// check options: package engine and its siblings do the former, package config the latter.
//
// Read root.go first, then copy.go.
package app
