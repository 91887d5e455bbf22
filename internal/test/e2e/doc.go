// Package e2e holds the end-to-end tests. They run the built program between real servers and real
// clients; each host is a network namespace.
//
// A test compares the target's own log or data with production's, and checks that the copier's
// report balances and agrees. No test reads a packet, a counter or a table inside the copier. The
// package has tests only; nothing imports it.
//
// # Vocabulary
//
// Tests are written in five words. Each has a file.
//
//   - stand (stand_test.go): the hosts of one test. newStand makes them for a way to the target;
//     eachWay runs a test for all ways.
//   - server (server_test.go): a lineServer answers each line with the same line and records it.
//     pair starts one on production and one on the target.
//   - client (client_test.go): a connection to a server. talk, short, paced and keepOpen are loads.
//   - copier (copier_test.go): a running tcpcopy copy, with the intercept that its way requires.
//     end stops it and returns its account.
//   - expect (expect_test.go): what must hold. eventually waits for an event; expectSame and
//     expectComplete compare the target with production, and the account with both.
//
// A new case is some ten lines:
//
//	func TestEcho(t *testing.T) {
//		t.Parallel()
//		eachWay(t, func(t *testing.T, way string) {
//			s := newStand(t, setting{way: way})
//			p := s.pair()
//			c := s.copyPair("-n", "1")
//			s.talk(productionPort, "echo", 10, 5)
//			p.caughtUp(t)
//			_, _, bytes := p.production.counts()
//			expectComplete(t, c.end(), 10, bytes)
//			p.expectSame(t)
//		})
//	}
//
// A test waits for events (eventually), not for time. It calls t.Parallel if nothing in it is
// judged by how much of the machine it has: such tests run beside each other, after all others.
// With -short, as make test runs it, a table takes the cases that it names for that, or each case
// by one way only (inTurn); make soak takes all.
package e2e
