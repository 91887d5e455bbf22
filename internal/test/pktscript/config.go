package pktscript

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/way/raw/tcp"
)

// source holds the client's bytes: byte i is pattern[i mod 65536], in segments of the sizes, the
// last of which repeats.
type source struct {
	sizes []uint64
	gap   uint64 // there are no bytes from here on
}

// pattern holds its period twice, so that a view of up to a period never wraps.
var pattern = func() (p [1 << 17]byte) {
	for i := range p {
		p[i] = byte(i) ^ byte(i>>8)*31
	}
	copy(p[1<<16:], p[:1<<16])
	return p
}()

// View returns at most max bytes from off on.
func (s *source) View(off uint64, max int) []byte {
	end := uint64(0)
	for i, n := range s.sizes {
		if i == len(s.sizes)-1 && end <= off {
			end += (off-end)/n*n + n
			break
		}
		if end += n; end > off {
			break
		}
	}
	end = min(end, s.gap, off+uint64(max), off+1<<16)
	if end <= off {
		return nil
	}
	return pattern[off&0xffff:][:end-off]
}

// checkPayload verifies that a segment carries the bytes that its sequence number stands for.
func (r *runner) checkPayload(s *packet.Segment) {
	if s.Len != len(s.Payload) {
		r.failf("a segment says it has %d bytes and carries %d: > %s", s.Len, len(s.Payload),
			r.show(s))
	}
	off := uint64(uint32(s.Seq - r.cfg.ISN - 1))
	for i, b := range s.Payload {
		if b != pattern[(off+uint64(i))&0xffff] {
			r.failf("byte %d of the segment is not the stream's: > %s", i, r.show(s))
		}
	}
	s.Payload = nil
}

func (r *runner) defaults() {
	r.cfg = tcp.Config{
		Local:  netip.MustParseAddrPort("192.0.2.1:1024"),
		Remote: netip.MustParseAddrPort("198.51.100.1:80"),
		ISN:    0xffffff00, // wraps after 256 bytes
		TSBase: 0xfffffff0,
		Syn:    packet.Options{MSS: 1460},
	}
	r.src = source{sizes: []uint64{1000}, gap: 1 << 62}
}

// config reads the pairs of a config line.
func (r *runner) config(args string) {
	f := strings.Fields(args)
	for i := 0; i < len(f); i++ {
		key := f[i]
		if key == "ipv6" {
			r.cfg.Local = netip.MustParseAddrPort("[2001:db8::1]:1024")
			r.cfg.Remote = netip.MustParseAddrPort("[2001:db8:1::1]:80")
			continue
		}
		if i++; i == len(f) {
			r.failf("config %s: want a value", key)
		}
		val := f[i]
		switch key {
		case "syn":
			switch val {
			case "full":
				r.cfg.Syn = packet.Options{MSS: 1460, WScale: 7, HasWScale: true,
					SACKPermitted: true, HasTS: true}
			case "sack":
				r.cfg.Syn = packet.Options{MSS: 1460, SACKPermitted: true}
			case "minimal":
				r.cfg.Syn = packet.Options{MSS: 1460}
			default:
				r.cfg.Syn, _ = r.options(strings.ReplaceAll(val, "=", " "))
			}
		case "segments":
			r.src.sizes = nil
			for _, v := range strings.Split(val, ",") {
				r.src.sizes = append(r.src.sizes, uint64(r.number(v)))
			}
		case "cc":
			control, ok := map[string]uint8{"reno": tcp.Reno, "cubic": tcp.CUBIC,
				"bbr": tcp.BBR}[val]
			if !ok {
				r.failf("config cc: want reno, cubic or bbr, not %q", val)
			}
			r.cfg.CongestionControl = control
		case "window":
			r.cfg.SynWindow = uint16(r.number(val))
		case "rcvwindow":
			r.cfg.RcvWindow = uint32(r.number(val))
		case "maxsegment":
			r.cfg.MaxSegment = r.number(val)
		case "synretries":
			r.cfg.SynRetries = r.number(val)
		case "connecttimeout":
			r.cfg.ConnectTimeout = r.duration(val)
		case "usertimeout":
			r.cfg.UserTimeout = r.duration(val)
		case "rtt":
			r.rtt = r.duration(val)
		default:
			r.failf("config: unknown key %q", key)
		}
	}
}

func (r *runner) number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		r.failf("want a number, not %q", s)
	}
	return n
}

func (r *runner) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		r.failf("want a duration, not %q", s)
	}
	return d
}

// command does what the owner of the Conn does.
func (r *runner) command(word, args string) {
	switch word {
	case "quiet":
		return
	case "expect":
		r.expectStatus(args)
		return
	case "handshake":
		r.handshake(args)
		return
	case "open":
		if !r.open {
			r.conn.Init(&r.cfg, &r.src)
			r.open = true
		}
		r.conn.Open(r.now)
	case "release":
		if !r.open {
			r.conn.Init(&r.cfg, &r.src)
			r.open = true
		}
		r.conn.Release(r.now, uint64(r.number(args)))
	case "close":
		r.conn.CloseWrite(r.now)
	case "abort":
		r.conn.Abort(r.now)
	case "free":
		r.conn.FreeOldConnection(r.now)
	case "mtu":
		r.conn.SetMTU(r.number(args))
	case "urgent":
		r.conn.Urgent(uint64(r.number(args)))
	case "path":
		r.setPath(args)
		return
	case "gap":
		r.src.gap = uint64(r.number(args))
		return
	default:
		r.failf("unknown command %q", word)
	}
	r.poll(r.now)
}

// handshake opens the connection; args are the window and options of the SYN-ACK.
func (r *runner) handshake(args string) {
	if args == "" {
		args = "win 65535 <mss 1460>"
	}
	r.command("open", "")
	r.expectPacket(r.now, "S 0:0(0)")
	r.now = r.now.Add(r.rtt)
	s := r.parse("S. 0:0(0) ack 1 " + args)
	r.tr.Add(r.now, &s)
	r.conn.Deliver(r.now, &s)
	r.poll(r.now)
	r.expectPacket(r.now, ". 1:1(0) ack 1")
}

func (r *runner) expectStatus(args string) {
	st := r.conn.Status()
	f := strings.Fields(args)
	for i := 0; i < len(f); i += 2 {
		if i+1 == len(f) {
			r.failf("expect %s: want a value", f[i])
		}
		var got string
		switch f[i] {
		case "state":
			got = st.State.String()
		case "err":
			got = strings.ReplaceAll(st.Err.String(), " ", "-")
		case "acked":
			got = strconv.FormatUint(st.Acked, 10)
		case "sent":
			got = strconv.FormatUint(st.Sent, 10)
		case "received":
			got = strconv.FormatUint(st.Received, 10)
		case "retransmits":
			got = strconv.FormatUint(uint64(st.Retransmits), 10)
		case "srtt":
			got = st.SRTT.String()
		case "rto":
			got = st.RTO.String()
		case "established":
			got = yes(st.Established)
		case "fin":
			got = yes(st.RemoteFIN)
		case "hole":
			got = yes(st.HasHole)
		case "oldack":
			got = "no"
			if st.OldAck {
				got = strconv.Itoa(int(int32(st.OldAckNumber - uint32(r.cfg.ISN))))
			}
		case "done":
			got = yes(st.Done)
		case "flying": // bytes sent and not acknowledged
			got = strconv.FormatUint(st.Sent-st.Acked, 10)
		case "rate":
			got = strconv.Itoa(r.measured())
		case "wakes":
			got = yes(r.wake != mono.Never)
		default:
			r.failf("expect: unknown key %q", f[i])
		}
		if low, high, ok := strings.Cut(f[i+1], ".."); ok {
			if n := r.number(got); n < r.number(low) || n > r.number(high) {
				r.failf("%s is %d, expected %s\nstatus: %+v", f[i], n, f[i+1], st)
			}
			continue
		}
		if got != f[i+1] {
			r.failf("%s is %s, expected %s\nstatus: %+v", f[i], got, f[i+1], st)
		}
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
