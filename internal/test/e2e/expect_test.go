package e2e

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/lab"
)

// patience is how long a test waits for an event before it fails.
const patience = 30 * time.Second

// eventually waits until so returns true, and ends the test if it has not done so within patience.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	if !within(patience, so) {
		t.Fatalf("waited %v in vain for: %s", patience, what)
	}
}

// stoodStill is for how long a copier did not run, by its account: on a machine that does other
// things too, what it does is late by as much.
func stoodStill(r *export.Report) time.Duration {
	return time.Duration(r.StoodStill * float64(time.Second))
}

// labStoodStill is for how long at most the lab's process, which has both servers, did not run: it
// looks at them at least ten times a second.
func labStoodStill(r *lab.Result) (most time.Duration) {
	for i := 1; i < len(r.Samples); i++ {
		most = max(most, r.Samples[i].At-r.Samples[i-1].At-100*time.Millisecond)
	}
	return most
}

// within waits until so returns true, for at most d. It reports whether it did.
func within(d time.Duration, so func() bool) bool {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-look.C {
		if so() {
			return true
		}
	}
	return so()
}

// expectSame compares two sorted lists, and logs the first lines that differ.
func expectSame(t testing.TB, what string, target, production []string) {
	t.Helper()
	if slices.Equal(target, production) {
		return
	}
	t.Errorf("%s: %d at the target, %d at production, and they differ", what, len(target),
		len(production))
	shown := 0
	show := func(side string, have, other []string) {
		for i := range have {
			if shown < 6 && (i == 0 || have[i] != have[i-1]) {
				if n, m := count(have, have[i]), count(other, have[i]); n > m {
					t.Logf("  %s %d times, against %d: %.300s", side, n, m, have[i])
					shown++
				}
			}
		}
	}
	show("target", target, production)
	show("production", production, target)
}

// count returns how often a sorted list contains a line.
func count(sorted []string, line string) int {
	first, _ := slices.BinarySearch(sorted, line)
	n := 0
	for first+n < len(sorted) && sorted[first+n] == line {
		n++
	}
	return n
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// expectSame checks that the target received what production received, connection by connection.
func (p pair) expectSame(t testing.TB) {
	t.Helper()
	expectSame(t, "what connections said", p.target.said(), p.production.said())
}

// expectComplete checks that an account has so many sessions and bytes, all of them delivered.
func expectComplete(t testing.TB, r *export.Report, sessions int, bytes int64) {
	t.Helper()
	if r.Sessions.Captured != uint64(sessions) || r.Sessions.Delivered != uint64(sessions) ||
		len(r.Sessions.Dropped) > 0 {
		t.Errorf("the account of sessions: %+v, wanted %d captured and delivered", r.Sessions,
			sessions)
	}
	if r.Bytes.Captured != uint64(bytes) || r.Bytes.Delivered != uint64(bytes) ||
		len(r.Bytes.Dropped) > 0 {
		t.Errorf("the account of bytes: %+v, wanted %d captured and delivered", r.Bytes, bytes)
	}
}

// expectLeftOut checks that an account drops, for one reason and in whole sessions, all that the
// target did not receive of the captured sessions and bytes.
func expectLeftOut(t testing.TB, r *export.Report, why ledger.Reason, target *lineServer,
	captured int,
	bytes int64) {
	t.Helper()
	opened, _, got := target.counts()
	check := func(what string, f export.FlowReport, captured, delivered uint64) {
		t.Helper()
		if f.Captured != captured || f.Delivered != delivered ||
			f.Dropped[why.String()] != captured-delivered {
			t.Errorf("the account of %s: %+v, wanted %d captured, %d delivered, and %d dropped "+
				"for %v", what, f, captured, delivered, captured-delivered, why)
		}
		for other := range f.Dropped {
			if other != why.String() {
				t.Errorf("the account of %s: %+v, wanted no reason but %v", what, f, why)
			}
		}
	}
	check("sessions", r.Sessions, uint64(captured), uint64(opened))
	check("bytes", r.Bytes, uint64(bytes), uint64(got))
}

// expectShared checks the accounts of copiers that see the same clients: each connection is
// delivered by one of them and refused to the others.
func expectShared(t testing.TB, all []*export.Report, sessions, bytes uint64) {
	t.Helper()
	var delivered, deliveredBytes, taken uint64
	for _, r := range all {
		delivered += r.Sessions.Delivered
		deliveredBytes += r.Bytes.Delivered
		taken += r.Bytes.Dropped["tuple_taken"]
		lost := r.Sessions.Captured - r.Sessions.Delivered - r.Sessions.Dropped["tuple_taken"]
		if lost != 0 {
			t.Errorf("a copier's account of sessions: %+v, wanted no reason but tuple_taken",
				r.Sessions)
		}
		if r.Bytes.Captured != bytes {
			t.Errorf("a copier has captured %d bytes, wanted %d", r.Bytes.Captured, bytes)
		}
	}
	if delivered != sessions || deliveredBytes != bytes || taken != uint64(len(all)-1)*bytes {
		t.Errorf("delivered are %d sessions and %d bytes, wanted %d and %d; refused %d bytes: %+v",
			delivered, deliveredBytes, sessions, bytes, taken, all)
	}
}

// timesOver reports whether the target's list consists of production's lines, each least to most
// times.
func timesOver(target, production []string, least, most int) bool {
	count := make(map[string]int)
	for _, text := range target {
		count[text]++
	}
	for _, text := range production {
		if n := count[text]; n < least || n > most {
			return false
		}
		delete(count, text)
	}
	return len(count) == 0
}

// targetOf returns the account of a target.
func targetOf(t testing.TB, r *export.Report, at netip.AddrPort) export.TargetReport {
	t.Helper()
	for _, to := range r.Targets {
		if to.Target == at.String() {
			return to
		}
	}
	t.Fatalf("no account of the target %s: %+v", at, r.Targets)
	return export.TargetReport{}
}
