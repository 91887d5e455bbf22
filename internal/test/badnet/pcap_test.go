package badnet

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
)

// pcapDir, where it is set in the environment, is a directory that gets what every host of every
// test saw, headers only, as pcap files.
const pcapDir = "BADNET_PCAP"

// record has the hosts' packets recorded, if that is asked for.
func record(t testing.TB, o *lab.Options) {
	dir := os.Getenv(pcapDir)
	if dir == "" {
		return
	}
	dir = filepath.Join(dir, strings.NewReplacer("/", "_", " ", "_", ",", "").Replace(t.Name()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	setup := o.Setup
	o.Setup = func(n *netlab.Net) error {
		for _, host := range n.Namespaces() {
			if host.Name == "switch" {
				continue
			}
			cmd := host.Command(context.Background(), "tcpdump", "-i", "any", "-s", "120", "-U",
				"-Z", "root", "-w", filepath.Join(dir, host.Name+".pcap"))
			said, err := cmd.StderrPipe()
			if err != nil {
				return err
			}
			if err := cmd.Start(); err != nil {
				return err
			}
			out := bufio.NewReader(said)
			for line := ""; !strings.Contains(line, "listening on"); {
				if line, err = out.ReadString('\n'); err != nil {
					return fmt.Errorf("tcpdump on %s: %q, %w", host.Name, line, err)
				}
			}
			go io.Copy(io.Discard, out)
		}
		if setup == nil {
			return nil
		}
		return setup(n)
	}
}
