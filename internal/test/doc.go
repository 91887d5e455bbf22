// Package test groups what only tests import: a simulated network (sim), packet scripts
// (pktscript), network namespaces (testnet), the rules of the source tree (archtest), and the
// end-to-end tests over real networks (e2e) and bad ones (badnet). Package toyproto is a protocol
// that shows what a protocol brings.
//
// The packages may import every group. Only _test.go files import them; the program must not.
//
// Read e2e first: its cases say what the program does.
package test
