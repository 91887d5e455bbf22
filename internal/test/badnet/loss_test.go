package badnet

import (
	"testing"

	"tcpcopy/internal/lab"
)

// TestLoss loses packets to and from the target. All must arrive, once, in order, and none too
// early.
func TestLoss(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		short   bool
		options lab.Options
	}{
		{"1 %, 50 connections of 200 requests", true, lab.Options{Via: lab.Raw, Loss: 1,
			Load: keepalive(50, 200, 200)}},
		{"1 %, 2,000 connections", false, lab.Options{Via: lab.Raw, Loss: 1, Load: short(2000, 60,
			200)}},
		{"5 %, requests of 3 KB", true, lab.Options{Via: lab.Raw, Loss: 5, Load: keepalive(50, 40,
			3000)}},
		{"5 %, connections of one request of 3 KB", false, lab.Options{Via: lab.Raw, Loss: 5,
			Load: short(500, 60, 3000)}},
		{"1 %, IPv6", false, lab.Options{Via: lab.Raw, Loss: 1, IPv6: true, Load: keepalive(50, 40,
			3000)}},
		{"1 %, socket", false, lab.Options{Via: lab.Socket, Loss: 1, Load: keepalive(50, 50, 200)}},
		{"5 %, socket, requests of 3 KB", false, lab.Options{Via: lab.Socket, Loss: 5,
			Load: keepalive(50, 20, 3000)}},
		{"1 % on both sides of production", false, lab.Options{Via: lab.Raw, Loss: 1, ClientLoss: 1,
			Load: keepalive(50, 40, 3000)}},
	} {
		if left(test.short) {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			perfect(t, play(t, test.options))
		})
	}
}
