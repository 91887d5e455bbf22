// Package badnet holds the tests of copies on bad networks and to difficult targets: packets that
// are lost, hosts whose TCP lacks options, applications that do not read, firewalls, and parts of
// the copy that end and come back. The hosts are namespaces on this machine, and their TCP is
// Linux's own; what arrived is compared request by request (package lab). It has no code of its
// own.
package badnet
