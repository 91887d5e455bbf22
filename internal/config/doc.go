// Package config turns command lines and configuration files into validated settings: one struct for
// each command.
//
// It owns the options: their letters, names, meaning and bounds, and the messages that refuse bad
// input. The settings that it returns are complete and consistent, so that no other package checks
// them again. Package app registers the options with its commands and prints what is wrong.
//
// The package imports the groups whose settings it holds: core, proto, source, way, account and sys.
// It never runs anything, and opens only the files that options name: configuration, keys and
// logins.
//
// Read copy.go first.
package config
