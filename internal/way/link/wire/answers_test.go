package wire

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
)

var readTuple = Tuple{Client: netip.MustParseAddrPort("192.0.2.7:40000"),
	Target: netip.MustParseAddrPort("[fd00::2]:80")}

var someReadings = []Reading{
	{Tuple: readTuple, Serial: 7, Proto: http1.Kind, BaseKnown: true, Base: 0xfffffff0},
	{Tuple: readTuple, Serial: 8, Request: 300, Hint: proto.Keep | 1, Held: true},
}

var someFound = []Found{
	{Kind: FoundConfirmed, Tuple: readTuple, Serial: 7},
	{Kind: FoundConfirmed, Tuple: readTuple, Serial: 8, Whole: true},
	{Kind: FoundAnswer, Tuple: readTuple, Answer: proto.Answer{End: 300, Size: 300, Status: 404,
		Failed: true}, Age: 3 * time.Millisecond},
	{Kind: FoundBytes, Tuple: readTuple, Data: []byte("hi")},
	{Kind: FoundLost, Tuple: readTuple},
}

func TestAnswersRoundTrip(t *testing.T) {
	var body []byte
	for i := range someReadings {
		body = AppendReading(body, &someReadings[i])
	}
	for i := range someReadings {
		var r Reading
		var err error
		if body, err = NextReading(body, &r); err != nil || !reflect.DeepEqual(r, someReadings[i]) {
			t.Fatalf("reading %d: %+v, %v; want %+v", i, r, err, someReadings[i])
		}
	}
	for i := range someFound {
		body = AppendFound(body, &someFound[i])
	}
	for i := range someFound {
		var f Found
		var err error
		if body, err = NextFound(body, &f); err != nil || !reflect.DeepEqual(f, someFound[i]) {
			t.Fatalf("found %d: %+v, %v; want %+v", i, f, err, someFound[i])
		}
	}
	if len(body) != 0 {
		t.Errorf("%d bytes are left", len(body))
	}
}

// A body that ends too soon, wherever it does, is an error; none panics or loops.
func TestAnswersCut(t *testing.T) {
	for i := range someFound {
		whole := AppendFound(nil, &someFound[i])
		for n := range whole {
			var f Found
			if _, err := NextFound(whole[:n], &f); !errors.Is(err, ErrShort) &&
				!errors.Is(err, ErrValue) {
				t.Fatalf("record %d cut at %d: %v", i, n, err)
			}
		}
	}
	whole := AppendReading(nil, &someReadings[0])
	for n := range whole {
		var r Reading
		if _, err := NextReading(whole[:n], &r); !errors.Is(err, ErrShort) &&
			!errors.Is(err, ErrValue) {
			t.Fatalf("reading cut at %d: %v", n, err)
		}
	}
	var f Found
	if _, err := NextFound(append([]byte{9}, AppendFound(nil, &someFound[4])[1:]...),
		&f); !errors.Is(err, ErrValue) {
		t.Errorf("an unknown record: %v, want ErrValue", err)
	}
}

// unpack unpacks the digest of an answer, if it has one.
func unpack(f *Found) {
	if d := f.Answer.Digest; d != nil {
		d.Unpack(proto.NewDigesting(1, 0))
		d.Size = 0 // as it came it took other memory
	}
}

func FuzzAnswers(f *testing.F) {
	var a, b []byte
	for i := range someReadings {
		a = AppendReading(a, &someReadings[i])
	}
	for i := range someFound {
		b = AppendFound(b, &someFound[i])
	}
	f.Add(a)
	f.Add(b)
	f.Fuzz(func(t *testing.T, body []byte) {
		var r Reading
		for rest, err := body, error(nil); len(rest) > 0 && err == nil; {
			before := len(rest)
			if rest, err = NextReading(rest, &r); err == nil && len(rest) >= before {
				t.Fatal("a reading of no bytes")
			}
		}
		var found Found
		for rest, err := body, error(nil); len(rest) > 0 && err == nil; {
			if rest, err = NextFound(rest, &found); err == nil {
				unpack(&found)
				again := Found{}
				_, err := NextFound(AppendFound(nil, &found), &again)
				if unpack(&again); err != nil || !reflect.DeepEqual(again, found) {
					t.Fatalf("%+v came back as %+v, %v", found, again, err)
				}
			}
		}
	})
}
