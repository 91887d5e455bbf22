package sys

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// confineAs is the environment variable that makes this test program a process to confine.
const confineAs = "TCPCOPY_TEST_CONFINE"

// TestConfine confines a process of its own, and has it try what it may do and what it may not.
func TestConfine(t *testing.T) {
	if how := os.Getenv(confineAs); how != "" {
		confined(t, how)
		return
	}
	for _, how := range []string{"root", "user", "enter"} {
		t.Run(how, func(t *testing.T) {
			if how == "user" && os.Getuid() != 0 {
				t.Skip("only root can become another user")
			}
			cmd := exec.Command(os.Args[0], "-test.run=^TestConfine$", "-test.v")
			cmd.Env = append(os.Environ(), confineAs+"="+how)
			cmd.Dir = t.TempDir()
			out, err := cmd.CombinedOutput()
			if strings.Contains(string(out), ErrCgo.Error()) {
				t.Skip(ErrCgo)
			}
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// confined is the process.
func confined(t *testing.T, how string) {
	hold := make(chan struct{})
	defer close(hold)
	for range 4 { // threads that exist before
		go func() {
			runtime.LockOSThread()
			<-hold
		}()
	}
	had, err := ReadPrivileges()
	if err != nil {
		t.Fatal(err)
	}
	raw := HasNetRaw()
	c := &Confinement{Keep: []Capability{CapNetRaw, CapSysAdmin}, Enter: how == "enter"}
	if how != "enter" {
		c.Keep = c.Keep[:1]
	}
	if how == "user" {
		c.User = &User{UID: 65534, GID: 65534}
	}
	if err := Confine(c); err != nil {
		t.Fatal(err)
	}
	go func() { // and one that does not
		runtime.LockOSThread()
		<-hold
	}()
	p, err := ReadPrivileges()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("had %+v, has %+v", *had, *p)
	uid := os.Getuid()
	if !p.NoNewPrivs || p.Dumpable || p.UID != uid || c.User != nil && uid != c.User.UID {
		t.Errorf("privileges %+v", *p)
	}
	want := "CAP_NET_RAW"
	if how == "enter" {
		want += " CAP_SYS_ADMIN"
	}
	if got := strings.ToUpper(strings.Join(p.Capabilities, " ")); raw && got != want {
		t.Errorf("capabilities %s, want %s", got, want)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) < 5 {
		t.Fatalf("%d threads, %v", len(tasks), err)
	}
	for _, path := range tasks {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		q, err := parsePrivileges(string(b))
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(q.Capabilities, q.NoNewPrivs, q.Seccomp, q.UID) != fmt.Sprint(
			p.Capabilities, p.NoNewPrivs, p.Seccomp, p.UID) {
			t.Errorf("%s: %+v, want %+v", path, *q, *p)
		}
	}
	if HasNetRaw() != raw || HasNetAdmin() {
		t.Errorf("net_raw %v (had %v), net_admin %v", HasNetRaw(), raw, HasNetAdmin())
	}
	tryCalls(t, how == "enter", p.Seccomp)
}

// tryCalls tries what all confined processes can do, and what none can.
func tryCalls(t *testing.T, enter, filtered bool) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal("listen:", err)
	}
	if c, err := net.Dial("tcp", l.Addr().String()); err != nil {
		t.Error("connect:", err)
	} else {
		c.Close()
	}
	l.Close()
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		return
	}
	if !filtered {
		t.Error("no calls are filtered")
	}
	err = exec.Command("/proc/self/exe", "-test.run=^$").Run()
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("run a program: %v, want EPERM", err)
	}
	if err := unix.PtraceSeize(os.Getppid()); err != unix.EPERM {
		t.Errorf("trace: %v, want EPERM", err)
	}
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
	if enter != (err == nil) && os.Getuid() == 0 {
		t.Errorf("enter a namespace: %v, want success %v", err, enter)
	}
	if _, _, errno := syscall.RawSyscall(x32|unix.SYS_GETPID, 0, 0, 0); errno != unix.EPERM &&
		runtime.GOARCH == "amd64" {
		t.Errorf("a call of the other kind: %v, want EPERM", errno)
	}
}

func TestParsePrivileges(t *testing.T) {
	p, err := parsePrivileges("Name:\ttcpcopy\nUid:\t0\t7\t0\t0\nCapEff:\t0000010000003002\n" +
		"NoNewPrivs:\t1\nSeccomp:\t2\n")
	if err != nil {
		t.Fatal(err)
	}
	want := "{Capabilities:[cap_40 cap_dac_override cap_net_admin cap_net_raw] NoNewPrivs:true " +
		"Seccomp:true Dumpable:false UID:7}"
	if got := fmt.Sprintf("%+v", *p); got != want {
		t.Error(got)
	}
	for _, bad := range []string{"", "CapEff:\tx\nNoNewPrivs:\t0\nSeccomp:\t0\nUid:\t0\n",
		"CapEff:\t0\nNoNewPrivs:\t0\nSeccomp:\t0\n"} {
		if p, err := parsePrivileges(bad); err == nil {
			t.Errorf("%q: %+v, want an error", bad, *p)
		}
	}
}

func TestMarkByRaw(t *testing.T) {
	for release, want := range map[string]bool{"5.16.20": false, "5.17.0-rc1": true, "5.4": false,
		"6.1.0-18-amd64": true, "4.19.0": false, "": false, "x": false} {
		if got := markByRaw(release); got != want {
			t.Errorf("%q: %v, want %v", release, got, want)
		}
	}
}

func TestMayUse(t *testing.T) {
	me := User{os.Getuid(), os.Getgid()}
	other := User{me.UID + 1, me.GID + 1}
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !MayWrite(dir, me) || MayWrite(dir, other) || MayWrite(dir+"/none", me) {
		t.Error("the directory is not its owner's alone")
	}
	if !MayRead(file, me) || MayRead(file, other) || MayRead(file, User{me.UID + 1, me.GID}) {
		t.Error("the file is not its owner's alone")
	}
	if err := os.Chmod(dir, 0o600); err != nil {
		t.Fatal(err)
	}
	if MayRead(file, me) {
		t.Error("a file in a directory that cannot be entered may be read")
	}
}
