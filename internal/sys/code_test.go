package sys

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestReleaseCode(t *testing.T) {
	before := mappedFile(t)
	if err := ReleaseCode(); err != nil {
		t.Fatal(err)
	}
	after := mappedFile(t)
	t.Logf("%d kB of files were mapped, then %d kB", before, after)
	if after > before*9/10 {
		t.Errorf("%d kB of files were mapped, and %d kB still are", before, after)
	}
}

// mappedFile returns how much of files is mapped and present, in kB.
func mappedFile(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^RssFile:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Skip("this kernel does not tell RssFile")
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What the process has changed itself is lost if it is unmapped.
func TestOnlyCleanMappings(t *testing.T) {
	const smaps = `00400000-00e7f000 r-xp 00000000 fe:00 12378482   /bin/program
Size:              10748 kB
Anonymous:             0 kB
00e7f000-019cf000 r--p 00a7f000 fe:00 12378482   /bin/program
Anonymous:             0 kB
019cf000-019d0000 r--p 015cf000 fe:00 12378482   /bin/program
Anonymous:             4 kB
01ad7000-01ad8000 rw-p 016cf000 fe:00 12378482   /bin/program
Anonymous:             0 kB
7f5986d10000-7f5987d10000 rw-s 00000000 00:09 73045312   socket:[73045312]
Anonymous:             0 kB
7f5987d10000-7f5988000000 r-xp 00000000 00:00 0   /lib/another
Anonymous:             0 kB
7ffd1f6e0000-7ffd1f701000 r-xp 00000000 00:00 0   [vdso]
Anonymous:             0 kB
`
	var got []string
	err := eachClean(strings.NewReader(smaps), "/bin/program", func(from, to uintptr) error {
		got = append(got, fmt.Sprintf("%x-%x", from, to))
		return nil
	})
	if all := strings.Join(got, " "); err != nil || all != "400000-e7f000 e7f000-19cf000" {
		t.Errorf("unmapped %s: %v", all, err)
	}
}
