package engine

import (
	"net/netip"
	"testing"

	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/proto/known"
)

// A reload adds, replaces and removes an old version. Sessions that have a copy there keep its
// group.
func TestOldVersionIsReloaded(t *testing.T) {
	maps, err := mapping.Parse("80-10.0.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Copy{Mappings: maps, Compare: config.Compare{On: true},
		Mapped: config.Mapped{Copies: 3, Proto: config.ProtoAuto, Protocols: known.NewSettings()}}
	s := services(c, 1, 0)[0]
	if s.Opposed || s.Baseline != nil {
		t.Errorf("without an old version: %+v", s)
	}
	for _, a := range []string{"10.0.0.3:8080", "10.0.0.4:8080"} {
		c.Mapped.Against = netip.MustParseAddrPort(a)
		if configure(s, c, 0, 1); !s.Opposed || len(s.Baseline.Targets()) != 1 ||
			s.Baseline.Targets()[0].Addr != c.Mapped.Against {
			t.Errorf("%s: %v, %+v", a, s.Opposed, s.Baseline)
		}
		all := wayTargets(c)
		if len(all) != 2 || all[0].Copies != 3 || all[1].Addr != c.Mapped.Against ||
			all[1].Copies != 1 {
			t.Errorf("%s: the way goes to %+v", a, all)
		}
	}
	group, gone := s.Baseline, s.Baseline.Targets()[0]
	c.Mapped.Against = netip.MustParseAddrPort("10.0.0.3:8080")
	if configure(s, c, 0, 1); s.Baseline != group || !gone.Removed() {
		t.Error("a server that is no old version any more gets further copies")
	}
	c.Mapped.Against = netip.AddrPort{}
	if configure(s, c, 0, 1); s.Opposed || s.Baseline != group {
		t.Errorf("after it was removed: %v, %+v", s.Opposed, s.Baseline)
	}
}
