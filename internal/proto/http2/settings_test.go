package http2

import (
	"strings"
	"testing"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

func TestDeadline(t *testing.T) {
	for _, c := range []struct{ option, value, want string }{
		{"1", "1S", "1000000u"}, {"2.5", "1S", "2500000u"}, {"2", "100m", "200000u"},
		{"0.5", "1M", "30000000u"}, {"2", "99999999n", "199999u"}, {"1000", "1H", "3600000S"},
		{"1000", "99999999H", "99999999H"}, {"0.001", "1n", "1n"}, {"2", "0S", "1n"},
		{"2", "", ""}, {"2", "S", "S"}, {"2", "1", "1"}, {"2", "1s", "1s"}, {"2", "-1S", "-1S"},
		{"2", "123456789S", "123456789S"}, {"none", "1S", "left out"},
	} {
		s := new(Settings)
		must(s.Options()[0].Set(c.option))
		r := bareRig(t)
		r.c = NewClient(s.Share(new(semantics.Rules)).(*Settings))
		r.begin(false)
		must(r.answers.WriteSettings())
		r.hear()
		r.take()
		r.client.out.WriteString(preface)
		r.client.head(1, true, ":method POST", ":path /s/m", "grpc-timeout "+c.value,
			"content-type application/grpc")
		r.feed(0)
		want := "headers 1 POST /s/m " + c.want + " application/grpc end"
		r.wants(strings.Replace(want, " left out", "", 1))
	}
	for _, text := range []string{"", "0", "-1", "1001", "1e-9", "NaN", "Inf", "2x", "None"} {
		if err := new(Settings).setDeadline(text); err == nil ||
			!strings.Contains(err.Error(), `"`+text+`"`) {
			t.Errorf("%q: %v, wanted an error that quotes it", text, err)
		}
	}
}

// A copy of settings does not change with them, and has the rules that it is given.
func TestSettings(t *testing.T) {
	s := new(Settings)
	if !s.Empty() || s.Complete(proto.Env{}) != nil {
		t.Error("new settings are not empty")
	}
	c := s.Clone().(*Settings)
	must(s.setDeadline("2"))
	rules := &semantics.Rules{Set: []semantics.Header{{Name: "Host", Value: "test"}}}
	if !c.Empty() || s.Empty() || s.Share(rules).(*Settings).Rules != rules ||
		s.Share(new(semantics.Rules)).(*Settings).Rules != nil {
		t.Errorf("%+v, %+v", s, c)
	}
}
