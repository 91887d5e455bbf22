package config

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/pflag"

	"tcpcopy/internal/source/schedule"
)

// Replay holds the settings of a replay: what is played from capture files, and when.
type Replay struct {
	Files    []string // "-" is standard input
	Schedule schedule.Config
	Passes   int           // how often all is played; 0: without end
	Duration time.Duration // of the replay, in real time; 0: no bound
	// Identities open encrypted recordings.
	Identities []age.Identity
}

// stdin is the file name that stands for standard input.
const stdin = "-"

// replayDrain is the time that sessions get to end when all has been read. Each session has its
// own time-outs, so that few take as long.
const replayDrain = 10 * time.Minute

// replayTexts holds the options of a copy whose default or help differs in a replay.
var replayTexts = map[string]struct{ def, help string }{
	"drain": {"10m", "give sessions this time to end when all has been read; a signal " +
		"ends them at once"},
	"session-memory": {"", "bytes that one session may hold for a slow target (default: half of " +
		"--memory)"},
	"filter": {"", "replay only packets that match, in tcpdump's syntax: host, net, " +
		"port, portrange, src, dst, and, or, not"},
	"whole-sessions": {"", "do not replay connections that were open before the recording began"},
}

// notInReplay holds the options of a copy that concern capturing.
var notInReplay = []string{"interface", "buffer", "mark", "snaplen", "both"}

// NewReplayOptions adds the options of tcpcopy replay to fs. After fs has been parsed, Replay
// returns the settings.
func NewReplayOptions(fs *pflag.FlagSet, host Host) *CopyOptions {
	o := &CopyOptions{fs: fs, host: host, c: defaultCopy(), port: DefaultPort,
		places: make(map[string]setting), replays: true}
	o.c.Drain = replayDrain
	for _, group := range [][]option{
		o.where(), o.when(), o.comparing(), mappedOptions(&o.c.Mapped), o.how(), o.bounds(),
		o.output(),
		o.letters(),
	} {
		group = slices.DeleteFunc(group,
			func(p option) bool { return slices.Contains(notInReplay, p.name) })
		for i := range group {
			if t, ok := replayTexts[group[i].name]; ok {
				group[i].help = t.help
				group[i].def = t.def
			}
		}
		register(fs, group)
	}
	return o
}

func (o *CopyOptions) when() []option {
	p := &o.replay
	return []option{
		{
			name: "speed", arg: "FACTOR", group: When, def: "1", set: o.setSpeed,
			help: "play FACTOR times as fast as recorded, such as 2.5 or 0.5; max: as fast as " +
				"the target answers",
		},
		{
			name: "rate", arg: "N", group: When, set: func(s string) error {
				return rate(&p.Schedule.Rate, "new sessions a second", 0.01,
					1e7)(strings.TrimSuffix(s, "/s"))
			},
			help: "begin at most N sessions a second; time is stretched where the recording has " +
				"more",
		},
		{
			name: "gap-limit", arg: "TIME", group: When,
			set:  span(&p.Schedule.GapLimit, time.Second, time.Millisecond, 24*time.Hour),
			help: "shorten longer silences in the recording to TIME",
		},
		{
			name: "loop", arg: "N", group: When, def: "1", set: o.setLoop,
			help: "play the recording N times, each time with new connections; forever: until a " +
				"signal ends it",
		},
		{
			name: "from", arg: "TIME", group: When, set: o.setFromTime,
			help: "begin at this time of the recording: after its first packet (10m), or a date " +
				"and time (2026-03-01T12:00:00Z, '2026-03-01 12:00')",
		},
		{
			name: "to", arg: "TIME", group: When, set: o.setToTime,
			help: "end at this time of the recording, given in the same ways",
		},
		{
			name: "identity", arg: "FILE", group: Where, set: setIdentities(&p.Identities),
			help: "the file with the secret key (keygen --recordings) of encrypted recordings " +
				"(record --encrypt-to)",
		},
		{
			name: "duration", arg: "TIME", group: When,
			set:  span(&p.Duration, time.Second, time.Millisecond, 365*24*time.Hour),
			help: "stop reading after this time",
		},
	}
}

func (o *CopyOptions) setSpeed(s string) error {
	if s == "max" {
		o.speed, o.replay.Schedule.Speed = s, 0
		return nil
	}
	f, err := strconv.ParseFloat(strings.TrimSuffix(s, "x"), 64)
	if err != nil || !(f >= 0.001 && f <= 1e6) {
		return wanted("wanted a factor from 0.001 to 1000000, such as 2.5, or max")
	}
	o.speed, o.replay.Schedule.Speed = s, f
	return nil
}

func (o *CopyOptions) setLoop(s string) error {
	if s == "forever" {
		o.loop, o.replay.Passes = s, 0
		return nil
	}
	if err := whole(&o.replay.Passes, 1, 1e9)(s); err != nil {
		return wanted("wanted a whole number from 1 on, or forever")
	}
	o.loop = s
	return nil
}

// dates holds the layouts of a date and time. Those without a zone are in this host's zone.
var dates = []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02T15:04:05",
	"2006-01-02 15:04", "2006-01-02T15:04"}

func moment(since *int64, after *time.Duration) func(string) error {
	return func(s string) error {
		for _, form := range dates {
			if t, err := time.ParseInLocation(form, s, time.Local); err == nil &&
				t.UnixNano() > 0 {
				*since, *after = t.UnixNano(), 0
				return nil
			}
		}
		*since = 0
		if span(after, time.Second, 0, 10*365*24*time.Hour)(s) != nil {
			return wanted("wanted a time after the first packet, such as 90s or 10m, or one " +
				"such as 2026-03-01T12:00:00Z or '2026-03-01 12:00'")
		}
		return nil
	}
}

func (o *CopyOptions) setFromTime(s string) error {
	return moment(&o.replay.Schedule.Since, &o.replay.Schedule.From)(s)
}

func (o *CopyOptions) setToTime(s string) error {
	if err := moment(&o.replay.Schedule.Until, &o.replay.Schedule.To)(s); err != nil {
		return err
	}
	if o.replay.Schedule.Until == 0 && o.replay.Schedule.To == 0 {
		return wanted("leaves nothing to play: wanted a time after the first packet")
	}
	return nil
}

// offline returns TCPCopy's letters for a replay.
func (o *CopyOptions) offline() []option {
	return []option{
		{
			name: "acceleration", letter: "a", arg: "N", group: Letters,
			set:  o.once("-a", "--speed", &o.speed, o.setSpeed),
			help: "the same as --speed (of a replay: -i FILE)",
		},
		{
			name: "interval", letter: "I", arg: "MS", group: Letters,
			set: span(&o.replay.Schedule.GapLimit, time.Millisecond, time.Millisecond,
				24*time.Hour),
			help: "the same as --gap-limit, in milliseconds (of a replay: -i FILE)",
		},
		{
			name: "times", letter: "T", arg: "N", group: Letters,
			set:  o.once("-T", "--loop", &o.loop, o.setLoop),
			help: "the same as --loop (of a replay: -i FILE)",
		},
	}
}

// once refuses different values for the two names of one option.
func (o *CopyOptions) once(letter, name string, said *string,
	set func(string) error) func(string) error {
	return func(s string) error {
		if *said != "" && *said != s {
			return wanted("%s is %s, which was given as %s: wanted one of them", letter, name,
				*said)
		}
		return set(s)
	}
}

// Replay returns the settings of the options, which have been parsed, and of the names of files.
func (o *CopyOptions) Replay(files []string) (*Copy, []string, error) {
	o.files = append(o.files, files...)
	if len(o.files) == 0 {
		return nil, nil, wanted("nothing to replay: wanted the names of capture files, or - for " +
			"standard input").
			hinting("tcpcopy replay peak.pcapng -x 80-10.0.0.2:8080 replays what tcpcopy " +
				"record, or tcpdump -w, has written")
	}
	return o.Copy()
}

// recording completes the settings of a replay, if there are files.
func (o *CopyOptions) recording(c *Copy) error {
	if len(o.files) == 0 {
		for _, p := range o.offline() {
			if f := o.fs.Lookup(p.name); !o.replays && f.Changed {
				return (&Problem{Flag: typed(f), What: "is for a replay: wanted -i with the " +
					"name of a capture file"}).
					hinting("tcpcopy replay --help explains replays")
			}
		}
		return nil
	}
	if len(c.Interfaces) > 0 {
		return &Problem{Flag: "-i", What: fmt.Sprintf("has interfaces and files: wanted one "+
			"kind, not %q and %q", c.Interfaces[0], o.files[0])}
	}
	if c.From.Kind != FromHost {
		return &Problem{Flag: "-i", What: "has a file, which does not go with --from: wanted " +
			"one source"}
	}
	r := o.replay
	if o.speed == "" {
		r.Schedule.Speed = 1
	}
	if o.loop == "" {
		r.Passes = 1
	}
	r.Files = o.files
	for i, name := range r.Files {
		if name == stdin {
			if r.Passes != 1 {
				return &Problem{Flag: "--loop", Value: o.loop, What: "does not go with standard " +
					"input, which can be read once: wanted the name of a file"}
			}
			if slices.Contains(r.Files[:i], stdin) {
				return wanted("standard input is named twice: wanted - once")
			}
			continue
		}
		fi, err := os.Stat(name)
		switch {
		case err != nil:
			return wanted("capture file %q: %s: wanted files to replay, or - for standard input",
				name, kernelWords(err))
		case fi.IsDir():
			return wanted("%q is a directory: wanted the files in it",
				name).hinting("tcpcopy replay %s/*", strings.TrimSuffix(name, "/"))
		case !fi.Mode().IsRegular() && r.Passes != 1:
			return &Problem{Flag: "--loop", Value: o.loop, What: fmt.Sprintf("does not go with "+
				"%q, which can be read once: wanted regular files", name)}
		}
	}
	if s := r.Schedule; s.To > 0 && s.From >= s.To || s.Until > 0 && s.Since >= s.Until {
		return &Problem{Flag: "--to", What: "is not after --from: nothing would be played"}
	}
	c.Replay, c.From = &r, From{Kind: FromFile}
	if !o.fs.Changed("drain") {
		c.Drain = replayDrain
	}
	if !o.fs.Changed("session-memory") {
		c.SessionMemory = c.Memory / 2 // reading waits for the target long before that
	}
	return nil
}
