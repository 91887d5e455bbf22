package tcp_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tcpcopy/internal/test/pktscript"
)

// TestScripts runs the scripts in testdata/script, one for each behaviour, in a directory for each
// topic. The first line of a script names the section of the RFC that it shows.
func TestScripts(t *testing.T) {
	names := regexp.MustCompile(`^# (RFC \d+ §|RFC \d+ |draft-[a-z-]+-\d\d §|design )`)
	n := 0
	root := filepath.Join("testdata", "script")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".pkt" {
			return err
		}
		n++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := strings.CutPrefix(path, root+string(filepath.Separator))
		t.Run(strings.TrimSuffix(name, ".pkt"), func(t *testing.T) {
			if !names.Match(text) {
				t.Errorf("the first line does not name what it shows")
			}
			pktscript.Run(t, path, string(text))
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 100 {
		t.Errorf("%d scripts, want at least 100", n)
	}
}
