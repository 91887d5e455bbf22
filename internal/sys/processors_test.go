package sys

import (
	"strings"
	"testing"
)

func TestParseProcessorTime(t *testing.T) {
	const good = "cpu  882 1 351 16061 54 2 17 3 100 0\n" +
		"cpu0 357 0 151 8146 18 0 7 0 0 0\ncpu1 525 0 199 7915 35 0 10 0 0 0\n" +
		"intr 12 0 1\nctxt 4711\n"
	for _, c := range []struct {
		name, stat string
		want       ProcessorTime
		err        string
	}{
		{"two processors", good, ProcessorTime{Busy: 882 + 1 + 351 + 2 + 17 + 3,
			Idle: 16061 + 54, Processors: 2}, ""},
		{"empty", "", ProcessorTime{}, "no processor's time"},
		{"no processors", "cpu 1 2 3 4 5 6 7 8\n", ProcessorTime{}, "no processor's time"},
		{"too old", "cpu 1 2 3 4\ncpu0 1 2 3 4\n", ProcessorTime{}, "5 fields"},
		{"no number", strings.Replace(good, "351", "-351", 1), ProcessorTime{}, `"-351"`},
	} {
		got, err := parseProcessorTime(c.stat)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, wanted %s", c.name, err, c.err)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; wanted %+v", c.name, got, err, c.want)
		}
	}
}

func TestReadProcessorTime(t *testing.T) {
	a, err := ReadProcessorTime()
	if err != nil {
		t.Fatal(err)
	}
	b, err := ReadProcessorTime()
	if err != nil || b.Busy+b.Idle < a.Busy+a.Idle || b.Processors != a.Processors {
		t.Errorf("first %+v, then %+v, %v", a, b, err)
	}
}
