// Package test groups what only tests import: a simulated network (sim), packet scripts
// (pktscript), network namespaces (testnet), the rules of the source tree (archtest), and the
// end-to-end tests over real networks (e2e) and bad ones (badnet). Package toyproto is a protocol
// that shows what a protocol brings.
//
// Nothing outside the group imports it, except _test.go files.
//
// Read e2e first: its cases say what the program does.
package test
