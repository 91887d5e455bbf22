package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// shuffling answers with a list. Of each 70 answers the elements are in another order in the
// which-th; if that is 0, in none.
type shuffling struct {
	which    uint64
	asked    atomic.Uint64
	shuffled atomic.Uint64
}

func (s *shuffling) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	items := []string{"1", "2", "3", "5", "8"}
	if n := s.asked.Add(1) % 70; s.which > 0 && n == s.which {
		slices.Reverse(items)
		s.shuffled.Add(1)
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"items":[%s]}`, strings.Join(items, ","))
}

// TestCompareOrder checks the verdict of a list that is in another order in few answers. If that is
// the target's doing it cannot be told, and is said to be too little to prove; a rule that lists
// may be in any order silences it; and what production does as well is no difference.
func TestCompareOrder(t *testing.T) {
	t.Parallel()
	const clients, conns = 4, 34 // 408 requests
	const where = "GET /doc/{id}: body.items[]: order"
	for _, c := range []struct {
		name               string
		production, target uint64 // which answers are shuffled
		rules              []string
		code               int
		why                string
	}{
		{"by the target", 0, 35, nil, 5, where + " in 6 answers: too few to prove it"},
		{"by the target, and permitted", 0, 35, []string{"--unordered", "body.items"}, 0,
			"408 answers compared"},
		{"by both", 10, 45, nil, 0, "408 answers compared"},
	} {
		t.Run(c.name, func(t *testing.T) {
			someWays(t, only(socket), func(t *testing.T, way string) {
				production := &shuffling{which: c.production}
				target := &shuffling{which: c.target}
				s := newStand(t, setting{way: way})
				serveOn(t, s.net.Production, productionPort, &http.Server{Handler: production})
				serveOn(t, s.net.Target, targetPort, &http.Server{Handler: target})
				copier := s.copyPair(append([]string{"--compare"}, c.rules...)...)
				s.askService(clients, conns)
				if code := copier.stop(syscall.SIGINT); code != c.code {
					t.Errorf("exit code %d, wanted %d\n%s", code, c.code, copier.output())
				}
				r := copier.account()
				checkComparison(t, r, 3*clients*conns)
				checkProven(t, r, nil)
				v := r.Compare
				if n := target.shuffled.Load(); n < 5 || len(v.Why) == 0 ||
					!strings.HasPrefix(v.Why[0], c.why) {
					t.Errorf("%s: %q, wanted %q; the target has shuffled %d answers: %+v",
						v.Verdict, v.Why, c.why, n, v.Cells)
				}
				if permitted := c.rules != nil; permitted != (len(v.Cells) == 0) ||
					permitted && (len(v.Rules) == 0 || v.Rules[0].Silenced != 6) {
					t.Errorf("cells %+v, rules %+v", v.Cells, v.Rules)
				}
			})
		})
	}
}
