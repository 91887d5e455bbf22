package engine

import (
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/source/capfile"
	"tcpcopy/internal/way"
)

// writeRecording writes a capture file of connections to production, each of which sends packets of
// size bytes, and returns how long the file is.
func writeRecording(t testing.TB, path string, connections, packets, size int) int64 {
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w, err := capfile.NewWriter(out, capfile.PCAP, capfile.LinkRaw, 0)
	if err != nil {
		t.Fatal(err)
	}
	var buf []byte
	at, text := int64(1_764_072_000e9), make([]byte, size)
	put := func(connection, seq int, flags packet.Flags, payload []byte) {
		buf = packet.Append(buf[:0], &packet.Segment{
			Src: netip.AddrPortFrom(client.Addr(), uint16(40000+connection)), Dst: production,
			Seq: seqnum.Value(seq), Flags: flags, Payload: payload, Len: len(payload),
		})
		w.Write(at, buf, len(buf))
		at += 1000
	}
	for c := range connections {
		put(c, 0, packet.SYN, nil)
		for i := range packets {
			put(c, 1+i*size, packet.ACK, text)
		}
		put(c, 1+packets*size, packet.ACK|packet.FIN, nil)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return w.Size()
}

// TestReplayRuns: a recording goes through the whole engine, pass after pass, and then the run
// ends.
func TestReplayRuns(t *testing.T) {
	const connections, packets, size, passes = 20, 30, 100, 3
	path := filepath.Join(t.TempDir(), "test.pcap")
	writeRecording(t, path, connections, packets, size)
	c := copying(t, "80-10.0.0.2:8080")
	c.From = config.From{Kind: config.FromFile, Text: path}
	c.Replay = &config.Replay{Files: []string{path}, Passes: passes}
	w := &memory{}
	ctl := &Control{Context: t.Context(), Log: slog.New(slog.DiscardHandler),
		Ready: func(string) {}}
	last, err := run(ctl, c, func(*export.Snapshot) {}, parts{
		way:    func(*way.Settings) (way.Way, error) { return w, nil },
		source: (*copier).openSource,
		local:  func() (localAddresses, error) { return here(production.Addr()), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := &last.Counters; n.Sessions.Delivered != connections*passes ||
		n.Bytes.Delivered != connections*passes*packets*size {
		t.Errorf("sessions %+v, bytes %+v", n.Sessions, n.Bytes)
	}
	if r := last.Replay; r == nil || r.Pass != passes ||
		r.Packets != passes*connections*(packets+2) {
		t.Errorf("replay %+v", r)
	}
	if len(w.copies) != connections*passes || !w.copies[0].shut {
		t.Errorf("%d copies", len(w.copies))
	}
}

// BenchmarkReplay is a capture file's way to the shards, as fast as can be: reading, decoding,
// dealing out, and the sessions, with a target that takes everything. 300 bytes a packet, 1,000
// packets a connection.
func BenchmarkReplay(b *testing.B) {
	const connections, each, size = 200, 1000, 260
	path := filepath.Join(b.TempDir(), "bench.pcap")
	b.SetBytes(writeRecording(b, path, connections, each, size))
	maps, err := mapping.Parse("80-10.0.0.2:8080")
	if err != nil {
		b.Fatal(err)
	}
	cfg := &config.Copy{Mappings: maps, Memory: 512 << 20,
		From: config.From{Kind: config.FromFile}, Shards: 1}
	cfg.Replay = &config.Replay{Files: []string{path}, Passes: 1}
	b.ReportAllocs()
	for b.Loop() {
		origin := time.Now()
		cp := &copier{c: cfg, now: func() mono.Time { return mono.Time(time.Since(origin)) }}
		if cp.replay, err = openReplay(cp); err != nil {
			b.Fatal(err)
		}
		end := &memoryEnd{way: &memory{}, waker: way.NewWaker(), discard: true}
		svc := &shard.Service{
			Session: &session.Service{Gate: gate.NewService(gate.Config{}), MaxBytes: 32 << 20,
				Idle: time.Hour, Stall: time.Minute},
			Targets: balance.NewGroup(balance.Config{}, maps[0].Targets), Copies: 1, Sample: 1,
		}
		loop := newShardLoop(shard.New(shard.Config{
			Services: []*shard.Service{svc}, Streams: end, MaxSessions: 1 << 20,
			MaxMemory: 512 << 20,
		}), end, cp.now)
		go loop.run()
		cp.shards = []*shardLoop{loop}
		served, err := newServed(cfg, maps)
		if err != nil {
			b.Fatal(err)
		}
		cp.reader = newReader(cp.replay.source, classifier{served: served}, cp.shards, cp.c.Memory)
		cp.reader.replay = cp.replay
		if err := cp.reader.run(); !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
		close(loop.stop)
		<-loop.ended
		if c := loop.counts; c.Bytes.Delivered != connections*each*size {
			b.Fatalf("delivered %d bytes: %+v", c.Bytes.Delivered, c.Bytes)
		}
	}
	b.ReportMetric(float64(connections*(each+2))*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mpkts/s")
}
