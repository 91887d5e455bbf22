package app

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tcpcopy/internal/doctor"
	"tcpcopy/internal/doctor/collect"
)

// TestDoctorPage checks that docs/doctor.md is made of the checks' own texts. With -update it is
// written.
func TestDoctorPage(t *testing.T) {
	var b bytes.Buffer
	doctor.Pages(&b)
	golden(t, "../../../docs/doctor.md", b.String())
}

// TestDoctorSchema checks a report against docs/doctor.schema.json.
func TestDoctorSchema(t *testing.T) {
	type object struct {
		Required   []string
		Properties map[string]struct{ Enum []string }
	}
	var schema struct {
		object
		Defs map[string]object `json:"$defs"`
	}
	text, err := os.ReadFile("../../docs/doctor.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	check := func(what string, o object, v map[string]any) {
		t.Helper()
		keys := slices.Sorted(maps.Keys(v))
		if want := slices.Sorted(slices.Values(o.Required)); !slices.Equal(keys, want) {
			t.Errorf("%s has the keys %v, the schema %v", what, keys, want)
		}
		for name, p := range o.Properties {
			if s, ok := v[name].(string); ok && p.Enum != nil && !slices.Contains(p.Enum, s) {
				t.Errorf("%s: %s is %q, the schema has %q", what, name, s, p.Enum)
			}
		}
	}
	p, stderr := dry()
	p.facts = func(context.Context, *collect.Subject) *doctor.Facts {
		return &doctor.Facts{
			Role: doctor.Copier, Via: "socket", Conntrack: &doctor.Conntrack{Count: 9, Max: 9},
			Needs: []doctor.Need{{Capability: "CAP_NET_RAW", Has: true}}, Watched: 1,
			Targets: []doctor.TargetFacts{{
				Addr: netip.MustParseAddrPort("10.0.0.2:80"), Route: doctor.Route{Device: "eth0"},
				Connect: &doctor.Attempt{Outcome: doctor.TimedOut},
			}},
		}
	}
	code := p.run([]string{"tcpcopy", "doctor", "-x", "80-10.0.0.2:80", "--json"})
	if code != exitFailure || stderr.Len() > 0 {
		t.Errorf("exit code %d, want %d: %s", code, exitFailure, stderr)
	}
	out := p.out.(*output).w.(*bytes.Buffer)
	var report map[string]any
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	check("the report", schema.object, report)
	for _, list := range []string{"findings", "unknown", "fine", "muted"} {
		all := report[list].([]any)
		if len(all) == 0 {
			t.Errorf("no %s", list)
		}
		for _, x := range all {
			check(list, schema.Defs["finding"], x.(map[string]any))
		}
	}
}

// TestDoctorSubject checks what the doctor makes of command lines, and its exit codes.
func TestDoctorSubject(t *testing.T) {
	for _, c := range []struct {
		line, args string
		role       doctor.Role
		via        string
		facts      doctor.Facts
		code       int
	}{
		{"doctor -x 80-10.0.0.2:80 -n 2 --json --for 0 --probe=192.0.2.9",
			"copy -x 80-10.0.0.2:80 -n 2", doctor.Copier, "socket", doctor.Facts{}, exitOK},
		{"doctor copy -v -x 80-10.0.0.2:80 --watch 1s --via tunnel -s 10.0.0.2 --insecure",
			"copy -x 80-10.0.0.2:80 --via tunnel -s 10.0.0.2 --insecure", doctor.Copier, "tunnel",
			doctor.Facts{Role: doctor.Copier, Via: "tunnel"}, exitUnknown},
		{"doctor intercept -i eth0", "intercept -i eth0", doctor.Assistant, "raw",
			doctor.Facts{Role: doctor.Assistant, Needs: []doctor.Need{{}}}, exitPrivilege},
		{"doctor intercept --on-target --allow 80", "intercept --on-target --allow 80",
			doctor.Target, "tunnel", doctor.Facts{
				Role: doctor.Target, Ports: []uint16{80}, Listeners: &doctor.Listeners{},
			}, exitFailure},
		{"doctor target --port 80", "target --port 80", doctor.Target, "raw", doctor.Facts{},
			exitOK},
	} {
		t.Run(c.line, func(t *testing.T) {
			p, _ := dry()
			p.facts = func(_ context.Context, s *collect.Subject) *doctor.Facts {
				if got := strings.Join(s.Args, " "); got != c.args || s.Role != c.role ||
					s.Via != c.via {
					t.Errorf("%s, %s, %q; want %s, %s, %q", s.Role, s.Via, got, c.role, c.via,
						c.args)
				}
				return &c.facts
			}
			if code := p.run(append([]string{"tcpcopy"},
				strings.Fields(c.line)...)); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
		})
	}
}

// TestDoctorBundle checks that a bundle has what a bug report needs, and no client's address.
func TestDoctorBundle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bundle.zip")
	p, _ := dry()
	p.facts = func(_ context.Context, s *collect.Subject) *doctor.Facts {
		if !s.Evidence {
			t.Error("no evidence is asked for")
		}
		return &doctor.Facts{
			Role: doctor.Copier, Args: s.Args,
			Targets: []doctor.TargetFacts{{Addr: netip.MustParseAddrPort("10.0.0.2:80")}},
			Census: &doctor.Census{Flows: []doctor.Flow{{
				Clients: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
			}}},
			Evidence: map[string]string{"routes.txt": "192.0.2.1 via 10.0.0.2\n"},
		}
	}
	line := []string{"tcpcopy", "doctor", "-x", "80-10.0.0.2:80", "--bundle", path}
	if code := p.run(line); code != exitUnknown {
		t.Fatalf("exit code %d, want %d", code, exitUnknown)
	}
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil || len(text) == 0 || bytes.Contains(text, []byte("192.0.2.1")) {
			t.Errorf("%s: %v\n%s", f.Name, err, text)
		}
		if f.Name == "routes.txt" && !bytes.Contains(text, []byte("via 10.0.0.2")) {
			t.Errorf("%s: the target's address is not left: %s", f.Name, text)
		}
	}
	want := []string{"command.txt", "facts.json", "report.json", "routes.txt", "version.txt"}
	if !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if code := p.run(line); code != exitBadInput {
		t.Errorf("the file is replaced: exit code %d", code)
	}
}

// TestWitness checks what becomes of the options of a witness.
func TestWitness(t *testing.T) {
	for _, c := range []struct {
		line, want string // the intercept and the assistant; or part of the error
		code       int
	}{
		{"--port 80 --witness 10.0.0.3", "10.0.0.3:36524 10.0.0.3", exitOK},
		{"--port 80 --witness [fd00::3]:99 --assistant fd00::4", "[fd00::3]:99 fd00::4", exitOK},
		{"--witness 10.0.0.3", "--port", exitBadInput},
		{"--port 80 --witness 10.0.0.x", `"10.0.0.x"`, exitBadInput},
		{"--port 80 --key /nowhere", "is for --witness", exitBadInput},
		{"--port 80 --witness 10.0.0.3 --key /nowhere", "/nowhere", exitBadInput},
		{"--port 80 --witness 10.0.0.3 --bundle x.zip", "--bundle", exitBadInput},
	} {
		t.Run(c.line, func(t *testing.T) {
			p, stderr := dry()
			got := ""
			p.witness = func(_ context.Context, w *collect.Witness) error {
				got = w.Intercept.String() + " " + w.Subject.Assistant.String()
				if w.TLS != nil || w.Subject.Ports[0] != 80 || w.Subject.Role != doctor.Target {
					t.Errorf("%+v", w)
				}
				return nil
			}
			code := p.run(append([]string{"tcpcopy", "doctor", "target"},
				strings.Fields(c.line)...))
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if code == exitOK && got != c.want || code != exitOK &&
				!strings.Contains(stderr.String(), c.want) {
				t.Errorf("%s; %s; want %s", got, stderr, c.want)
			}
		})
	}
}

// TestDoctorFor checks that --for examines until a cause is found.
func TestDoctorFor(t *testing.T) {
	p, _ := dry()
	n := 0
	p.facts = func(_ context.Context, s *collect.Subject) *doctor.Facts {
		if n++; n < 3 {
			return &doctor.Facts{Role: s.Role}
		}
		return &doctor.Facts{Role: s.Role, Conntrack: &doctor.Conntrack{Count: 9, Max: 9}}
	}
	line := []string{"tcpcopy", "doctor", "-x", "80-10.0.0.2:80", "--for", "1h"}
	if code := p.run(line); code != exitFailure || n != 3 {
		t.Errorf("exit code %d after %d examinations, want %d after 3", code, n, exitFailure)
	}
}
