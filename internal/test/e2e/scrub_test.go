package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"tcpcopy/internal/lab/netlab"
)

// confidant is a server of HTTP that knows what it was told.
type confidant struct {
	mu   sync.Mutex
	told []string
}

func (c *confidant) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, fmt.Sprintf("%s %s %s %s", r.URL, r.Header.Get("Authorization"),
		r.Header.Get("Cookie"), body))
	w.Header().Set("Set-Cookie", "session=answered-cookie")
	io.WriteString(w, `{"token": "answered-token", "greeting": "answered-greeting"}`)
}

func (c *confidant) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(slices.Values(c.told))
}

// confide starts a confidant.
func confide(t *testing.T, host *netlab.Namespace, port int) *confidant {
	t.Helper()
	l := listenOn(t, host, onPort(port))
	c := new(confidant)
	server := &http.Server{Handler: c}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return c
}

// confideAll has production told what is private, 20 times.
func (s *stand) confideAll(t *testing.T) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.net.Client.Dial(ctx, &net.Dialer{}, network, address)
		},
	}}
	for i := range 20 {
		r, err := http.NewRequest("POST", fmt.Sprintf("http://%s:80/login/%d", s.production, i),
			strings.NewReader(`{"user": {"password": "sent-password", "name": "sent-name"}}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer sent-bearer")
		r.Header.Set("Cookie", "id=sent-cookie")
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
	client.CloseIdleConnections()
}

// TestRecordScrubbed checks that a recording that was scrubbed and encrypted holds nothing that was
// named, and is replayed as what it was otherwise.
func TestRecordScrubbed(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: socket})
	production := confide(t, s.net.Production, productionPort)
	target := confide(t, s.net.Target, targetPort)
	identity, err := exec.Command(binary, "keygen", "--recordings").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"identity": identity, "recipient": regexp.MustCompile("age1.*").Find(identity),
	} {
		if err := os.WriteFile(s.file(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	record := func(args ...string) *process {
		return start(t, s.net.Production, "record", binary, append([]string{"record", "-x", "80",
			"--both", "--scrub", "header:authorization,cookie,set-cookie",
			"--scrub-json", "**.password,token"}, args...)...)
	}
	plain := record("-o", s.file("plain.pcapng"))
	sealed := record("-o", s.file("sealed.pcapng.zst.age"), "--encrypt-to", s.file("recipient"))
	for _, p := range []*process{plain, sealed} {
		p.awaitOutput("tcpcopy: ready: recording port 80")
	}
	s.confideAll(t)
	for _, p := range []*process{plain, sealed} {
		if code := p.stop(syscall.SIGINT); code != 0 {
			t.Errorf("exit code %d:\n%s", code, p.output())
		}
	}
	recording, err := os.ReadFile(s.file("plain.pcapng"))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"sent-password": false, "sent-bearer": false, "sent-cookie": false,
		"answered-cookie": false, "answered-token": false,
		"sent-name": true, "answered-greeting": true, "/login/19": true,
	} {
		if bytes.Contains(recording, []byte(text)) != want {
			t.Errorf("the recording has %q: %v", text, !want)
		}
	}
	again := func(args ...string) *process {
		return start(t, s.net.Production, "replay", binary, append([]string{"replay",
			s.file("sealed.pcapng.zst.age"), "-x", s.mapping(productionPort, targetPort)},
			args...)...)
	}
	refused := again()
	if code := refused.wait(); code != 2 || !strings.Contains(refused.output(), "--identity") {
		t.Errorf("without the identity: exit code %d\n%s", code, refused.output())
	}
	replay := again("--identity", s.file("identity"))
	if code := replay.wait(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, replay.output())
	}
	want := production.all()
	for i := range want {
		for _, secret := range []string{"Bearer sent-bearer", "id=sent-cookie", "sent-password"} {
			blank := regexp.MustCompile(`[^ ]`).ReplaceAllString(secret, "x") // words stay words
			want[i] = strings.Replace(want[i], secret, blank, 1)
		}
	}
	if got := target.all(); !slices.Equal(got, want) {
		t.Errorf("the target was told\n%s\nwanted\n%s", strings.Join(got, "\n"),
			strings.Join(want, "\n"))
	}
}
