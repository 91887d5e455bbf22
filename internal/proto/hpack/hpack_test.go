package hpack

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	oracle "golang.org/x/net/http2/hpack"
)

// read decodes a whole block, and returns its fields, one a line.
func read(d *Decoder, block []byte) (string, error) {
	var s strings.Builder
	b := NewBlock(block)
	for f := (Field{}); ; {
		more, err := d.Next(&b, &f)
		if err != nil && !errors.Is(err, ErrUnknown) || !more {
			return s.String(), err
		}
		if err != nil {
			s.WriteString("?\n")
			continue
		}
		fmt.Fprintf(&s, "%s: %s", f.Name, f.Value)
		if f.Never {
			s.WriteString(" (never)")
		}
		s.WriteByte('\n')
	}
}

// sized is a decoder of a table of that size.
func sized(most, size int) *Decoder {
	d := new(Decoder)
	d.Reset(most, false)
	d.table.resize(size)
	return d
}

// The examples of RFC 7541 appendix C. Blocks of one example share a table.
func TestAppendixC(t *testing.T) {
	const (
		first  = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n"
		second = first + "cache-control: no-cache\n"
		third  = ":method: GET\n:scheme: https\n:path: /index.html\n" +
			":authority: www.example.com\ncustom-key: custom-value\n"
		date   = "date: Mon, 21 Oct 2013 20:13:21 GMT\n"
		where  = "location: https://www.example.com\n"
		a1     = ":status: 302\ncache-control: private\n" + date + where
		a2     = ":status: 307\ncache-control: private\n" + date + where
		cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n"
		a3     = ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n" +
			where + "content-encoding: gzip\n" + cookie
	)
	for _, c := range []struct {
		name   string
		size   int
		blocks []string
		want   []string
		left   int // the size of the table at the end
	}{
		{"C.2.1", 4096, []string{"400a637573746f6d2d6b65790d637573746f6d2d686561646572"},
			[]string{"custom-key: custom-header\n"}, 55},
		{"C.2.2", 4096, []string{"040c2f73616d706c652f70617468"}, []string{
			":path: /sample/path\n"}, 0},
		{"C.2.3", 4096, []string{"100870617373776f726406736563726574"}, []string{
			"password: secret (never)\n"}, 0},
		{"C.2.4", 4096, []string{"82"}, []string{":method: GET\n"}, 0},
		{"C.3", 4096, []string{"828684410f7777772e6578616d706c652e636f6d",
			"828684be58086e6f2d6361636865",
			"828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565"},
			[]string{first, second, third}, 164},
		{"C.4", 4096, []string{"828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf",
			"828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"},
			[]string{first, second, third}, 164},
		{"C.5", 256, []string{"4803333032580770726976617465611d4d6f6e2c203231204f637420323031" +
			"332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
			"4803333037c1c0bf",
			"88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69" +
				"707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d" +
				"61782d6167653d333630303b2076657273696f6e3d31"}, []string{a1, a2, a3}, 215},
		{"C.6", 256, []string{"488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a6" +
			"2d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3", "4883640effc1c0bf",
			"88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2" +
				"e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d50" +
				"07"}, []string{a1, a2, a3}, 215},
	} {
		d := sized(4096, c.size)
		for i, block := range c.blocks {
			p, err := hex.DecodeString(block)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := read(d, p); got != c.want[i] || err != nil {
				t.Errorf("%s, block %d: got %q, %v, wanted %q", c.name, i, got, err, c.want[i])
			}
		}
		if d.table.size != c.left {
			t.Errorf("%s: the table has %d bytes, wanted %d", c.name, d.table.size, c.left)
		}
	}
}

func TestInvalid(t *testing.T) {
	for name, block := range map[string]string{
		"index 0":                   "80",
		"index beyond the table":    "be",
		"size above the bound":      "3fe2ff03",
		"size behind a field":       "8220",
		"integer without an end":    "ffffffffffffffffffffff",
		"name that is cut":          "400a6375",
		"value that is cut":         "0482",
		"index that is cut":         "ff",
		"padding of 8 bits":         "0482f8ff", // '&' and eight ones
		"padding of zeros":          "048118",
		"end of string in a string": "0484ffffffff",
	} {
		p, err := hex.DecodeString(block)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(sized(4096, 4096), p); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %q, %v, wanted ErrInvalid", name, got, err)
		}
	}
}

// traffic makes blocks as the oracle's encoder does, with names and values that come again, sizes
// that change, and entries larger than the table.
func traffic(r *rand.Rand, blocks int) (encoded [][]byte, want []string) {
	var out bytes.Buffer
	e := oracle.NewEncoder(&out)
	e.SetMaxDynamicTableSizeLimit(1 << 16)
	for range blocks {
		if r.IntN(8) == 0 {
			e.SetMaxDynamicTableSize(uint32([]int{0, 64, 300, 4096, 1 << 14}[r.IntN(5)]))
		}
		var s strings.Builder
		for range 1 + r.IntN(12) {
			f := oracle.HeaderField{Name: fmt.Sprintf("name-%d", r.IntN(12)),
				Value: fmt.Sprintf("%d", r.IntN(30)), Sensitive: r.IntN(9) == 0}
			switch r.IntN(10) {
			case 0:
				f.Name = static[r.IntN(staticLen)].name
			case 1:
				e := static[r.IntN(staticLen)]
				f.Name, f.Value = e.name, e.value
			case 2:
				raw := make([]byte, r.IntN(700))
				for i := range raw {
					raw[i] = byte(r.Uint32())
				}
				f.Value = string(raw)
			}
			if err := e.WriteField(f); err != nil {
				panic(err)
			}
			fmt.Fprintf(&s, "%s: %s", f.Name, f.Value)
			if f.Sensitive {
				s.WriteString(" (never)")
			}
			s.WriteByte('\n')
		}
		encoded, want = append(encoded, bytes.Clone(out.Bytes())), append(want, s.String())
		out.Reset()
	}
	return encoded, want
}

func TestReadsAsTheOracleWrites(t *testing.T) {
	for seed := range uint64(200) {
		d := new(Decoder)
		d.Reset(1<<16, false)
		encoded, want := traffic(rand.New(rand.NewPCG(seed, 1)), 60)
		for i := range encoded {
			if got, err := read(d, encoded[i]); got != want[i] || err != nil {
				t.Fatalf("seed %d, block %d: got %q, %v, wanted %q", seed, i, got, err, want[i])
			}
		}
	}
}

// A decoder that begins within a connection reads a field right, or not at all; and it reads most
// of what was added since.
func TestBeginsWithin(t *testing.T) {
	known, all := 0, 0
	for seed := range uint64(200) {
		encoded, want := traffic(rand.New(rand.NewPCG(seed, 2)), 60)
		d := new(Decoder)
		d.Reset(1<<16, true)
		for i := 10; i < len(encoded); i++ {
			got, err := read(d, encoded[i])
			if err != nil {
				t.Fatalf("seed %d, block %d: %v", seed, i, err)
			}
			// Lines of raw bytes may be broken; what is compared is blocks without them.
			g, w := strings.Split(got, "\n"), strings.Split(want[i], "\n")
			if all++; got == want[i] {
				known++
			} else if len(g) == len(w) {
				for k := range g {
					if g[k] != w[k] && g[k] != "?" {
						t.Fatalf("seed %d, block %d: got %q, wanted %q", seed, i, g[k], w[k])
					}
				}
			} else if !strings.Contains(got, "?") {
				t.Fatalf("seed %d, block %d: got %q, wanted %q", seed, i, got, want[i])
			}
		}
	}
	if known*10 < all*7 {
		t.Errorf("%d of %d blocks were read whole", known, all)
	}
}

// Entries that were added since are known, whatever comes between them that is not.
func TestKnowsWhatWasAdded(t *testing.T) {
	d := new(Decoder)
	d.Reset(1<<16, true)
	long := strings.Repeat("3", 4096)
	for i, tt := range []struct{ block, want string }{
		{"\x40\x01a\x011", "a: 1\n"},
		{"\x7f\x04\x01x", "?\n"}, // its name is that of an entry from before
		{"\xbf", "a: 1\n"},
		{"\xbe", "?\n"},
		{"\x7e\x01y", "?\n"}, // its name is that of the last one
		{"\xc0\xbf\xbe", "a: 1\n?\n?\n"},
		{"\x7f\x01\x012", "a: 2\n"},
		{"\x40\x01b\x7f\x81\x1f" + long, "b: " + long + "\n"}, // the usual table has no room
		{"\xbf\xc2", "a: 2\na: 1\n"},                          // a larger one has
	} {
		if got, err := read(d, []byte(tt.block)); err != nil || got != tt.want {
			t.Fatalf("block %d: got %.40q, %v, wanted %.40q", i, got, err, tt.want)
		}
	}
}

func TestWritesAsTheOracleReads(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		encoded, _ := traffic(r, 1)
		d := new(Decoder)
		d.Reset(1<<16, false)
		block, want := AppendResize(nil, 0), []oracle.HeaderField{}
		b := NewBlock(encoded[0])
		for f := (Field{}); ; {
			more, err := d.Next(&b, &f)
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				break
			}
			block = Append(block, &f)
			want = append(want, oracle.HeaderField{Name: string(f.Name), Value: string(f.Value),
				Sensitive: f.Never})
		}
		o := oracle.NewDecoder(4096, nil)
		o.SetAllowedMaxDynamicTableSize(0)
		got, err := o.DecodeFull(block)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %v, %v, wanted %v", got, err, want)
		}
	}
}

// request is the block of a request with 12 headers, as a browser sends it at first and then again.
func request() (first, again []byte) {
	var out bytes.Buffer
	e := oracle.NewEncoder(&out)
	for i := range 2 {
		for _, h := range []string{":method GET", ":scheme https", ":authority www.example.org",
			":path /orders/list?page=2", "accept text/html,application/xhtml+xml",
			"accept-encoding gzip, deflate, br", "accept-language en-US,en;q=0.9",
			"cookie session=0123456789abcdef0123456789abcdef", "user-agent Mozilla/5.0 (X11)",
			"referer https://www.example.org/orders", "x-trace 00-4bf92f3577b34da6", "te trailers",
		} {
			name, value, _ := strings.Cut(h, " ")
			if err := e.WriteField(oracle.HeaderField{Name: name, Value: value}); err != nil {
				panic(err)
			}
		}
		if i == 0 {
			first = bytes.Clone(out.Bytes())
			out.Reset()
		}
	}
	return first, bytes.Clone(out.Bytes())
}

func transcode(d *Decoder, block, dst []byte) []byte {
	b := NewBlock(block)
	for f := (Field{}); ; {
		more, err := d.Next(&b, &f)
		if err != nil {
			panic(err)
		}
		if !more {
			return dst
		}
		dst = Append(dst, &f)
	}
}

func TestAllocatesNothing(t *testing.T) {
	first, again := request()
	d := new(Decoder)
	d.Reset(4096, false)
	dst := transcode(d, first, nil)
	for _, block := range [][]byte{again, first} { // the second adds entries each time
		for range 50 {
			transcode(d, block, dst[:0])
		}
		if n := testing.AllocsPerRun(1000, func() { transcode(d, block, dst[:0]) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	first, again := request()
	d := new(Decoder)
	d.Reset(4096, false)
	dst := transcode(d, first, nil)
	b.ReportAllocs()
	for b.Loop() {
		transcode(d, again, dst[:0])
	}
}

func FuzzDecoder(f *testing.F) {
	first, again := request()
	f.Add(first, again, false)
	f.Add(again, first, true)
	f.Fuzz(func(t *testing.T, one, two []byte, blind bool) {
		d := new(Decoder)
		d.Reset(1<<16, blind)
		o := oracle.NewDecoder(4096, nil)
		o.SetAllowedMaxDynamicTableSize(1 << 16)
		for _, p := range [][]byte{one, two} {
			got, err := read(d, p)
			if d.table.size > 1<<16 || len(got) > 1<<16*len(p)+1<<12 {
				t.Fatalf("the table has %d bytes, and a block %d", d.table.size, len(got))
			}
			if blind {
				if err != nil {
					return
				}
				continue
			}
			fields, wantErr := o.DecodeFull(p)
			if err != nil || wantErr != nil {
				// The oracle refuses no change of the size behind a field of an earlier block.
				if (err == nil) != (wantErr == nil) && !strings.Contains(fmt.Sprint(err, wantErr),
					"size") {
					t.Fatalf("got %v, the oracle %v", err, wantErr)
				}
				return
			}
			var want strings.Builder
			for _, f := range fields {
				fmt.Fprintf(&want, "%s: %s", f.Name, f.Value)
				if f.Sensitive {
					want.WriteString(" (never)")
				}
				want.WriteByte('\n')
			}
			if got != want.String() {
				t.Fatalf("got %q, the oracle %q", got, want.String())
			}
		}
	})
}
