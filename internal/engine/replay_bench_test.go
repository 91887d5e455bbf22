package engine

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

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

// BenchmarkReplay is a capture file's way to the shards, as fast as can be: reading, decoding,
// dealing out, and the sessions, with a target that takes everything. 300 bytes a packet, 1,000
// packets a connection.
func BenchmarkReplay(b *testing.B) {
	const connections, each, size = 200, 1000, 260
	path := filepath.Join(b.TempDir(), "bench.pcap")
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w, err := capfile.NewWriter(out, capfile.PCAP, capfile.LinkRaw, 0)
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	at, text := int64(1_764_072_000e9), make([]byte, size)
	put := func(port uint16, seq int, flags packet.Flags, payload []byte) {
		s := packet.Segment{
			Src: netip.AddrPortFrom(client.Addr(),
				port), Dst: production, Seq: seqnum.Value(
				seq), Flags: flags, Payload: payload, Len: len(payload),
		}
		buf = packet.Append(buf[:0], &s)
		w.Write(at, buf, len(buf))
		at += 1000
	}
	for c := range uint16(connections) {
		put(40000+c, 0, packet.SYN, nil)
		for i := range each {
			put(40000+c, 1+i*size, packet.ACK, text)
		}
		put(40000+c, 1+each*size, packet.ACK|packet.FIN, nil)
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	out.Close()
	b.SetBytes(w.Size())
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
		cp.reader = newReader(cp.replay.source, classifier{served: served}, cp.shards)
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
