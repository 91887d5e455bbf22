// Package config turns command lines and configuration files into validated settings: one struct
// for each command.
//
// It owns the options: their names, letters, help, bounds, and the messages that refuse bad input;
// the options of protocols come from package known. Settings are complete and consistent, so that
// no other package checks them again. Package app adds the options to its commands and prints the
// errors.
//
// The package imports the groups whose settings it holds: core, proto, source, way, account and
// sys. It never runs anything, and opens only the files that options name: configuration, keys and
// logins.
//
// Read copy.go first: it is what the options become. option.go is how one is declared.
package config
