package badnet

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
			if err := cmd.Start(); err != nil {
				return err
			}
		}
		<-time.After(500 * time.Millisecond) // until they listen
		if setup == nil {
			return nil
		}
		return setup(n)
	}
}
