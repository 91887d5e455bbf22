package config

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"tcpcopy/internal/source/capfile"
	"tcpcopy/internal/source/recording"
	"tcpcopy/internal/source/schedule"
)

func parseReplay(t *testing.T, args ...string) (*Copy, error) {
	t.Helper()
	fs := pflag.NewFlagSet("replay", pflag.ContinueOnError)
	fs.Usage = func() {}
	o := NewReplayOptions(fs, host)
	if err := fs.Parse(args); err != nil {
		return nil, FlagProblem(err, "tcpcopy replay --help")
	}
	c, _, err := o.Replay(fs.Args())
	return c, err
}

func inFiles(t *testing.T, names ...string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, name := range names {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReplayOptions(t *testing.T) {
	inFiles(t, "a.pcap", "b.pcapng.zst", "capture")
	const x = " -x 80-10.0.0.2:8080"
	half := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC).UnixNano()
	for _, test := range []struct {
		args string
		want Replay
	}{
		{"a.pcap", Replay{Files: []string{"a.pcap"}, Passes: 1,
			Schedule: schedule.Config{Speed: 1}}},
		{"-", Replay{Files: []string{"-"}, Passes: 1, Schedule: schedule.Config{Speed: 1}}},
		{"a.pcap b.pcapng.zst --speed 2.5 --gap-limit 2s --rate 500/s",
			Replay{Files: []string{"a.pcap", "b.pcapng.zst"}, Passes: 1,
				Schedule: schedule.Config{Speed: 2.5, GapLimit: 2 * time.Second, Rate: 500}}},
		{"a.pcap --speed max --loop forever --duration 1h",
			Replay{Files: []string{"a.pcap"}, Duration: time.Hour}},
		{"a.pcap --loop 3 --from 10m --to 11m", Replay{Files: []string{"a.pcap"}, Passes: 3,
			Schedule: schedule.Config{Speed: 1, From: 10 * time.Minute, To: 11 * time.Minute}}},
		{"a.pcap --from 2026-03-01T12:30:00Z", Replay{Files: []string{"a.pcap"}, Passes: 1,
			Schedule: schedule.Config{Speed: 1, Since: half}}},
		{"a.pcap -a 3 -I 250 -T 2", Replay{Files: []string{"a.pcap"}, Passes: 2,
			Schedule: schedule.Config{Speed: 3, GapLimit: 250 * time.Millisecond}}},
	} {
		t.Run(test.args, func(t *testing.T) {
			c, err := parseReplay(t, strings.Fields(test.args+x)...)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(&test.want, c.Replay); d != "" {
				t.Error(d)
			}
			if c.From.Kind != FromFile || c.Captures() || c.Mark != 0 || c.Drain != replayDrain {
				t.Errorf("from %q, captures %v, mark %#x, drain %v", c.From.Kind, c.Captures(),
					c.Mark, c.Drain)
			}
		})
	}
}

// TCPCopy's own way of saying it.
func TestReplayLetters(t *testing.T) {
	inFiles(t, "a.pcap", "capture")
	for _, file := range []string{"a.pcap", "capture"} {
		c, _, err := parse(t, "-i", file, "-x", "80-10.0.0.2:8080", "-a", "3", "-I", "250", "-T",
			"2")
		if err != nil {
			t.Fatal(err)
		}
		want := Replay{Files: []string{file}, Passes: 2,
			Schedule: schedule.Config{Speed: 3, GapLimit: 250 * time.Millisecond}}
		if d := cmp.Diff(&want, c.Replay); d != "" {
			t.Error(d)
		}
	}
	if c, _, err := parse(t, "-i", "eth0", "-x", "80-10.0.0.2:8080"); err != nil ||
		c.Replay != nil {
		t.Errorf("an interface is a recording: %v, %v", c, err)
	}
}

func TestReplayRefusals(t *testing.T) {
	inFiles(t, "a.pcap")
	const x = " -x 80-10.0.0.2:8080"
	for _, test := range []struct{ args, want string }{
		{x, "nothing to replay: wanted the names of capture files"},
		{"gone.pcap" + x, `capture file "gone.pcap": no such file or directory`},
		{"." + x, `"." is a directory: wanted the files in it`},
		{"a.pcap", "nothing to copy: wanted -x"},
		{"a.pcap --speed 0" + x, `--speed "0": wanted a factor from 0.001`},
		{"a.pcap --speed fast" + x, `--speed "fast": wanted a factor`},
		{"a.pcap --speed NaN" + x, `--speed "NaN": wanted a factor`},
		{"a.pcap --speed 2 -a 3" + x, "-a"},
		{"a.pcap --loop 0" + x, `--loop "0": wanted a whole number from 1 on, or forever`},
		{"- --loop 2" + x, `--loop "2": does not go with standard input`},
		{"- -" + x, "standard input is named twice"},
		{"a.pcap --rate 0" + x, `--rate "0": wanted a number of new sessions a second`},
		{"a.pcap --from yesterday" + x,
			`--from "yesterday": wanted a time after the first packet`},
		{"a.pcap --from 10m --to 5m" + x, "--to: is not after --from"},
		{"a.pcap --to 0" + x, `--to "0": leaves nothing to play`},
		{"a.pcap -i eth0" + x, "unknown option -i"},
	} {
		t.Run(test.args, func(t *testing.T) {
			_, err := parseReplay(t, strings.Fields(test.args)...)
			var p *Problem
			if !errors.As(err, &p) || !strings.HasPrefix(p.Error(), test.want) {
				t.Errorf("got %v, wanted %s", err, test.want)
			}
		})
	}
}

func parseRecord(t *testing.T, args ...string) (*Record, error) {
	t.Helper()
	fs := pflag.NewFlagSet("record", pflag.ContinueOnError)
	fs.Usage = func() {}
	o := NewRecordOptions(fs, host)
	if err := fs.Parse(args); err != nil {
		return nil, FlagProblem(err, "tcpcopy record --help")
	}
	return o.Record()
}

func TestRecordOptions(t *testing.T) {
	for _, test := range []struct {
		args string
		want recording.Config
	}{
		{"-o a.pcapng", recording.Config{Path: "a.pcapng"}},
		{"-o -", recording.Config{Path: "-"}},
		{"-o a.pcap.gz --rotate 1GB --keep 24", recording.Config{Path: "a.pcap.gz",
			RotateBytes: 1 << 30, Keep: 24}},
		{"-o a.pcap --rotate 10m", recording.Config{Path: "a.pcap",
			RotateEvery: 10 * time.Minute}},
		{"-o a.pcap --rotate 10M", recording.Config{Path: "a.pcap", RotateBytes: 10 << 20}},
		{"-o a.pcap --rotate 1GB,10m --snaplen 128", recording.Config{Path: "a.pcap",
			RotateBytes: 1 << 30, RotateEvery: 10 * time.Minute, Snap: 128}},
	} {
		c, err := parseRecord(t, strings.Fields("-x 80 "+test.args)...)
		if err != nil {
			t.Errorf("%s: %v", test.args, err)
		} else if d := cmp.Diff(test.want, c.File); d != "" {
			t.Errorf("%s: %s", test.args, d)
		}
	}
	if k, _ := recording.KindOf("a.pcap.gz"); k.Format != capfile.PCAP {
		t.Errorf("%+v", k)
	}
	for args, want := range map[string]string{
		"-o a.pcap":                          "nothing to record: wanted -x PORT",
		"-x 80":                              "nowhere to record to: wanted -o FILE",
		"-x 80 -o a.txt":                     `-o "a.txt": wanted a name that ends in .pcapng`,
		"-x 80 -o - --rotate 1m":             "--rotate: does not go with standard output",
		"-x 80 -o a.pcap --keep 3":           `--keep "3": needs --rotate`,
		"-x 80 -o a.pcap --rotate often":     `--rotate "often": wanted a size of 64K or more`,
		"-x 80 -o a.pcap --rotate 1G,2G":     `--rotate "1G,2G": wanted a size`,
		"-x 80-10.0.0.2:8080 -o a.pcap":      `-x "80-10.0.0.2:8080": wanted ports`,
		"-x 80 -o a.pcap --sample 0":         "-r",
		"-x 80 -o a.pcap --snaplen 10":       "-S",
		"-x 80 -o a.pcap --rotate 1G,2G,10m": "--rotate",
	} {
		_, err := parseRecord(t, strings.Fields(args)...)
		var p *Problem
		if !errors.As(err, &p) || !strings.HasPrefix(p.Error(), want) {
			t.Errorf("%s: got %v, wanted %s", args, err, want)
		}
	}
}
