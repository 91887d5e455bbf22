package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
)

var someOps = []Op{
	{Kind: OpOpen, ID: 1, Client: netip.MustParseAddrPort("192.0.2.7:40000"),
		Target: netip.MustParseAddrPort("10.0.0.2:8080")},
	{Kind: OpData, ID: 1, Data: []byte("GET")},
	{Kind: OpCloseWrite, ID: 300},
	{Kind: OpAbort, ID: 1<<64 - 1},
	{Kind: OpOpen, ID: 2, Client: netip.MustParseAddrPort("[2001:db8::7]:40000"),
		Target: netip.MustParseAddrPort("[fd00::2]:80")},
	{Kind: OpListen, ID: 3, Client: netip.MustParseAddrPort("192.0.2.7:40000"),
		Target: netip.MustParseAddrPort("10.0.0.2:8080")},
	{Kind: OpRead, ID: 3, Proto: http1.Kind},
	{Kind: OpExpect, ID: 3, Request: 200, Hint: proto.Keep | 1},
	{Kind: OpLate, ID: 4, Age: 1500 * time.Millisecond},
}

var someEvents = []StreamEvent{
	{Kind: EventOpened, ID: 1},
	{Kind: EventTaken, ID: 1, N: 3},
	{Kind: EventReceived, ID: 1, N: 100000},
	{Kind: EventShut, ID: 300},
	{Kind: EventFinished, ID: 300},
	{Kind: EventReset, ID: 2, N: 1 << 40},
	{Kind: EventFailed, ID: 1<<64 - 1, Reason: ledger.TupleTaken},
	{Kind: EventAnswer, ID: 3, Answer: proto.Answer{End: 300, Size: 200, Status: 404, Failed: true},
		Age: 2 * time.Millisecond},
	{Kind: EventAnswer, ID: 3, Answer: proto.Answer{End: 1, Interim: true, Last: true, Kept: true}},
	{Kind: EventAnswer, ID: 3, Answer: proto.Answer{End: 1, Mark: true, Stream: 1 << 31}},
	{Kind: EventBytes, ID: 3, Data: []byte("hi")},
	{Kind: EventLost, ID: 3},
}

func TestStreamsGolden(t *testing.T) {
	var ops, events []byte
	for i := range someOps {
		ops = AppendOp(ops, &someOps[i])
	}
	for i := range someEvents {
		events = AppendStreamEvent(events, &someEvents[i])
	}
	for _, tc := range []struct {
		name string
		got  []byte
		want string
	}{
		{"operations", ops, "0101" + "04c00002079c40" + "040a0000021f90" + "020103474554" +
			"03ac02" + "04ffffffffffffffffff01" +
			"0102" + "0620010db80000000000000000000000079c40" +
			"06fd0000000000000000000000000000020050" +
			"0503" + "04c00002079c40" + "040a0000021f90" + "060301" + "0703c80181" +
			"0804dc0b"},
		{"events", events, "0101" + "020103" + "0301a08d06" + "04ac02" + "05ac02" +
			"0602808080808020" +
			"07ffffffffffffffffff01000b7475706c655f74616b656e" +
			"080304ac02c8019403d00f" + "08030b01000000" + "08032001000000" + "8080808008" +
			"0903026869" + "0a03"},
	} {
		if got := hex.EncodeToString(tc.got); got != tc.want {
			t.Errorf("%s\ngot  %s\nwant %s", tc.name, got, tc.want)
		}
	}

	var op Op
	for i := range someOps {
		var err error
		if ops, err = NextOp(ops, &op); err != nil || !reflect.DeepEqual(op, someOps[i]) {
			t.Fatalf("operation %d: %+v, %v; want %+v", i, op, err, someOps[i])
		}
	}
	var ev StreamEvent
	for i := range someEvents {
		var err error
		if events, err = NextStreamEvent(events, &ev); err != nil ||
			!reflect.DeepEqual(ev, someEvents[i]) {
			t.Fatalf("event %d: %+v, %v; want %+v", i, ev, err, someEvents[i])
		}
	}
	if len(ops)+len(events) != 0 {
		t.Errorf("left over: %x %x", ops, events)
	}
}

func TestStreamsRefuse(t *testing.T) {
	for _, tc := range []struct {
		name string
		body string
		want error
	}{
		{"unknown operation", "0901", ErrValue},
		{"data cut", "02010347", ErrShort},
		{"data too long", "0201ffffffff0f", ErrValue},
		{"endless varint", "03ffffffffffffffffffff01", ErrValue},
		{"cut varint", "0380", ErrShort},
		{"address family", "0101 07", ErrValue},
	} {
		body, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(tc.body), []byte(" "), nil)))
		if err != nil {
			t.Fatal(err)
		}
		var op Op
		if _, err := NextOp(body, &op); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	var ev StreamEvent
	for name, body := range map[string][]byte{
		"a status of 17 bits": {8, 1, 0, 1, 1, 0x80, 0x80, 4, 0},
		"an age of more than a life": {8, 1, 0, 1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			0xff, 0xff, 1},
		"too many bytes": {9, 1, 0x81, 0x80, 1},
	} {
		if _, err := NextStreamEvent(body, &ev); !errors.Is(err, ErrValue) {
			t.Errorf("%s: %v, want ErrValue", name, err)
		}
	}
	if _, err := NextStreamEvent([]byte{11, 1}, &ev); !errors.Is(err, ErrValue) {
		t.Errorf("unknown event: %v", err)
	}
	if _, err := NextStreamEvent([]byte{7, 1, 0, 3, 'h', 'u', 'h'}, &ev); err != nil ||
		ev.Reason != ledger.LinkError {
		t.Errorf("unknown reason: %+v, %v", ev, err)
	}
}

func FuzzStreams(f *testing.F) {
	var ops, events []byte
	for i := range someOps {
		ops = AppendOp(ops, &someOps[i])
	}
	for i := range someEvents {
		events = AppendStreamEvent(events, &someEvents[i])
	}
	f.Add(ops)
	f.Add(events)
	f.Fuzz(func(t *testing.T, body []byte) {
		var op Op
		for rest, err := body, error(nil); len(rest) > 0; {
			before := len(rest)
			if rest, err = NextOp(rest, &op); err != nil {
				break
			}
			if len(rest) >= before || len(op.Data) > MaxData {
				t.Fatalf("%+v: %d bytes left of %d", op, len(rest), before)
			}
			again := AppendOp(nil, &op)
			var back Op
			if _, err := NextOp(again, &back); err != nil || !reflect.DeepEqual(back, op) {
				t.Fatalf("%+v came back as %+v, %v", op, back, err)
			}
		}
		var ev StreamEvent
		for rest, err := body, error(nil); len(rest) > 0; {
			before := len(rest)
			if rest, err = NextStreamEvent(rest, &ev); err != nil {
				break
			}
			if len(rest) >= before || ev.Kind == EventFailed && ev.Reason == ledger.None {
				t.Fatalf("%+v: %d bytes left of %d", ev, len(rest), before)
			}
		}
	})
}

func BenchmarkOps(b *testing.B) {
	b.ReportAllocs()
	op := Op{Kind: OpData, ID: 1 << 20, Data: make([]byte, 200)}
	buf := make([]byte, 0, 1024)
	for b.Loop() {
		buf = AppendOp(buf[:0], &op)
		var back Op
		if _, err := NextOp(buf, &back); err != nil {
			b.Fatal(err)
		}
	}
}
