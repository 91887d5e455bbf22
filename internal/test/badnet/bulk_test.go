package badnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// bulk is how long an upload is, in bytes.
const bulk = 50_000_000

// BenchmarkBulkUpload uploads over a path of 20 ms with a loss of 0.1 %: by Linux's TCP, and by a
// raw copy of an upload to production, with the same congestion control. An iteration is one of
// each, over a path with the same seed. Reported are the medians; ratio is the copy's over Linux's.
//
//	go test -run '^$' -bench BulkUpload -benchtime 9x ./internal/badnet
func BenchmarkBulkUpload(b *testing.B) {
	for _, control := range []string{"bbr", "cubic"} {
		b.Run(control, func(b *testing.B) {
			var linux, raw []float64
			for i := range b.N {
				linux = append(linux, uploadByLinux(b, control, uint64(i)).Seconds())
				raw = append(raw, uploadByCopy(b, control, uint64(i)).Seconds())
				b.Logf("seed %d: Linux %.2f s, copy %.2f s", i, linux[i], raw[i])
			}
			l, r := median(linux), median(raw)
			b.ReportMetric(l, "linux-s")
			b.ReportMetric(r, "copy-s")
			b.ReportMetric(r/l, "ratio")
		})
	}
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

func bulkNet(b *testing.B, seed uint64) *netlab.Net {
	b.Helper()
	n, err := netlab.New(netlab.Config{ViaAssistant: true,
		TargetPath: netlab.Path{Delay: 10 * time.Millisecond, Loss: 0.1, Seed: seed}})
	if denied := (*netlab.PermissionError)(nil); errors.As(err, &denied) {
		b.Skip(err)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { n.Close() })
	return n
}

// sink accepts one connection, reads an upload from it, answers, and tells how long it took.
func sink(b *testing.B, host *netlab.Namespace, port int) <-chan time.Duration {
	b.Helper()
	l, err := host.Listen("tcp4", fmt.Sprintf(":%d", port))
	if err != nil {
		b.Fatal(err)
	}
	took := make(chan time.Duration, 1)
	go func() {
		defer l.Close()
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		begin := time.Now()
		if n, err := io.CopyN(io.Discard, c, bulk); err != nil {
			b.Errorf("%d bytes of the upload arrived: %v", n, err)
			close(took)
			return
		}
		took <- time.Since(begin)
		c.Write([]byte("thanks"))
		io.Copy(io.Discard, c)
	}()
	b.Cleanup(func() { l.Close() })
	return took
}

// upload sends an upload, in pieces with pauses, and waits for the answer.
func upload(b *testing.B, host *netlab.Namespace, d *net.Dialer, to netip.AddrPort,
	pause time.Duration) {
	b.Helper()
	c, err := host.Dial(b.Context(), d, "tcp", to.String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	piece := make([]byte, 250_000)
	for range bulk / len(piece) {
		if _, err := c.Write(piece); err != nil {
			b.Fatal(err)
		}
		<-time.After(pause)
	}
	c.Read(piece)
}

// dialer makes connections with one of the kernel's congestion controls.
func dialer(control string) *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		const tcpCongestion = 13 // TCP_CONGESTION
		err := c.Control(func(fd uintptr) {
			failed = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, tcpCongestion, control)
		})
		return errors.Join(err, failed)
	}}
}

// wanted is what a sink must have said in time.
func wanted(b *testing.B, took <-chan time.Duration) time.Duration {
	b.Helper()
	select {
	case d := <-took:
		return d
	case <-time.After(3 * time.Minute):
		b.Fatal("the upload did not arrive")
		return 0
	}
}

func uploadByLinux(b *testing.B, control string, seed uint64) time.Duration {
	n := bulkNet(b, seed)
	defer n.Close()
	took := sink(b, n.Target, 8080)
	upload(b, n.Production, dialer(control), netip.AddrPortFrom(netlab.TargetAddr4, 8080), 0)
	return wanted(b, took)
}

func uploadByCopy(b *testing.B, control string, seed uint64) time.Duration {
	n := bulkNet(b, seed)
	defer n.Close()
	dir := b.TempDir()
	key := filepath.Join(dir, "key")
	out, err := n.Production.Command(b.Context(), binary, "keygen").Output()
	if err == nil {
		err = os.WriteFile(key, out, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	start(b, n.Assistant, dir, "intercept", "-i", netlab.Device, "-F", "tcp and src port 8080",
		"--key", key)
	start(b, n.Production, dir, "copy", "-x", "80-10.77.2.2:8080", "-s", "10.77.2.3", "--key", key,
		"--session-memory", "100M",
		"--congestion", control)
	atProduction, atTarget := sink(b, n.Production, 80), sink(b, n.Target, 8080)
	// About a gigabit a second: as fast as the capture must follow on this machine.
	upload(b, n.Client, &net.Dialer{}, netip.AddrPortFrom(netlab.ProductionAddr4, 80),
		2*time.Millisecond)
	wanted(b, atProduction)
	return wanted(b, atTarget)
}

// start starts the program under test, and waits until it is ready.
func start(b *testing.B, host *netlab.Namespace, dir, command string, args ...string) {
	b.Helper()
	log, err := os.Create(filepath.Join(dir, command+".log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	cmd := host.Command(context.Background(), binary, append([]string{command}, args...)...)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill() // fails only where it has ended
		cmd.Wait()
	})
	for end := time.Now().Add(20 * time.Second); ; <-time.After(10 * time.Millisecond) {
		said, _ := os.ReadFile(log.Name())
		if strings.Contains(string(said), "tcpcopy: ready") {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("%s is not ready: %s", command, said)
		}
	}
}
