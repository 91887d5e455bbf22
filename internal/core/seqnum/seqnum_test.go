package seqnum

import "testing"

func TestComparison(t *testing.T) {
	for _, tc := range []struct {
		name   string
		v, w   Value
		less   bool
		lessEq bool
		sub    int
	}{
		{"equal", 7, 7, false, true, 0},
		{"before", 7, 8, true, true, -1},
		{"after", 8, 7, false, false, 1},
		{"before, over the wrap", 0xffffffff, 0, true, true, -1},
		{"after, over the wrap", 5, 0xfffffff0, false, false, 21},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.v.Less(tc.w); got != tc.less {
				t.Errorf("Less = %v, want %v", got, tc.less)
			}
			if got := tc.v.LessEq(tc.w); got != tc.lessEq {
				t.Errorf("LessEq = %v, want %v", got, tc.lessEq)
			}
			if got := tc.v.Sub(tc.w); got != tc.sub {
				t.Errorf("Sub = %d, want %d", got, tc.sub)
			}
		})
	}
}

func TestInWindow(t *testing.T) {
	for _, tc := range []struct {
		name  string
		v     Value
		first Value
		size  uint32
		want  bool
	}{
		{"first byte", 10, 10, 5, true},
		{"last byte", 14, 10, 5, true},
		{"one past", 15, 10, 5, false},
		{"one before", 9, 10, 5, false},
		{"over the wrap", 2, 0xfffffffe, 5, true},
		{"empty window", 10, 10, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.v.InWindow(tc.first, tc.size); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestUnwrap(t *testing.T) {
	for _, tc := range []struct {
		name    string
		v, base Value
		near    uint64
		want    uint64
	}{
		{"start", 100, 100, 0, 0},
		{"ahead", 150, 100, 10, 50},
		{"behind", 150, 100, 90, 50},
		{"number wraps", 5, 0xfffffff0, 0, 21},
		{"second time round", 150, 100, 1<<32 + 10, 1<<32 + 50},
		{"behind, over the second turn", 90, 100, 1<<32 + 10, 1<<32 - 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Unwrap(tc.v, tc.base, tc.near); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}
