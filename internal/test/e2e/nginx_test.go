package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
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

// nginx is an nginx with its own files.
type nginx struct {
	*process
	dir string
}

// nginxConfig serves files of several sizes, takes uploads, and writes a line of JSON for each
// request. DIR, LISTEN and REAL are replaced.
const nginxConfig = `
daemon off;
user root;
worker_processes 2;
pid DIR/nginx.pid;
error_log DIR/error.log warn;
worker_rlimit_nofile 4096;
events { worker_connections 2000; }
http {
	log_format all escape=json '{"conn":$connection,"method":"$request_method",'
		'"uri":"$request_uri","status":$status,"length":$request_length,'
		'"addr":"$remote_addr","port":$remote_port,"pipe":"$pipe",'
		'"ended":$msec,"took":$request_time,'
		'"proxied":"$proxy_protocol_addr","proxiedPort":"$proxy_protocol_port"}';
	access_log DIR/access.log all;
	client_body_temp_path DIR/bodies;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	client_max_body_size 20m;
	keepalive_requests 100000;
	keepalive_timeout 60s;
	server {
		LISTEN
		root DIR/www;
		MORE
		location /put/ {
			dav_methods PUT;
			create_full_put_path on;
		}
		location /post {
			client_body_in_file_only on;
			proxy_set_body off;
			proxy_pass http://127.0.0.1:9999/;
		}
	}
	server {
		listen 127.0.0.1:9999;
		access_log off;
		location / { return 200 "taken\n"; }
	}
}
`

// fileSizes is the size of each static file, /0, /1 and so on.
var fileSizes = []int{0, 1, 100, 1_000, 1_460, 10_000, 65_536, 300_000}

// startNginx starts an nginx on a host, with the parameters of its listen directives. changes are
// pairs of a text of the configuration and what is in its place.
func startNginx(t testing.TB, host *netlab.Namespace, port uint16, parameters string,
	changes ...string) *nginx {
	t.Helper()
	return startNginxWith(t, host, port, parameters, "", changes...)
}

// startNginxWith is startNginx with more directives of the server.
func startNginxWith(t testing.TB, host *netlab.Namespace, port uint16, parameters, more string,
	changes ...string) *nginx {
	t.Helper()
	path := find(t, "nginx")
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "www", "put"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i, size := range fileSizes {
		writeFile(t, filepath.Join(dir, "www", fmt.Sprint(i)), noise(uint64(i), size))
	}
	listen := fmt.Sprintf("listen %d %s; listen [::]:%d %s;", port, parameters, port, parameters)
	changed := strings.NewReplacer(changes...).Replace(nginxConfig)
	config := strings.NewReplacer("DIR", dir, "LISTEN", listen, "MORE", more).Replace(changed)
	writeFile(t, filepath.Join(dir, "nginx.conf"), []byte(config))
	n := &nginx{start(t, host, "nginx", path, "-p", dir, "-e", filepath.Join(dir, "error.log"),
		"-c", filepath.Join(dir, "nginx.conf")), dir}
	eventually(t, "nginx listens", func() bool {
		if n.hasEnded() {
			t.Fatalf("nginx ended: %s", n.output())
		}
		c, err := host.Dial(t.Context(), nil, "tcp", "127.0.0.1:9999")
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return n
}

// noise is content of a size, the same for the same seed.
func noise(seed uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 7))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// logged is a request in nginx's access log.
type logged struct {
	Conn        int64
	Method, URI string
	Status      int
	Length      int64
	Addr        netip.Addr
	Port        uint16
	Pipe        string  // "p": it was there while the one before was being answered
	Ended       float64 // in seconds since 1970
	Took        float64 // in seconds
	Proxied     string
	ProxiedPort string
}

// what is the request without where it came from.
func (l *logged) what() string {
	return fmt.Sprintf("%s %s %d %d", l.Method, l.URI, l.Status, l.Length)
}

// began is when the request had arrived.
func (l *logged) began() time.Duration {
	return time.Duration((l.Ended - l.Took) * float64(time.Second)).Round(time.Millisecond)
}

// lastOf returns when the last request of a log arrived.
func lastOf(log []logged) (at time.Duration) {
	for i := range log {
		at = max(at, log[i].began())
	}
	return at
}

// requests is nginx's access log so far.
func (n *nginx) requests() []logged {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.dir, "access.log"))
	if err != nil {
		n.t.Fatal(err)
	}
	var all []logged
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		var l logged
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			n.t.Fatalf("access log: %v in %q", err, line)
		}
		all = append(all, l)
	}
	return all
}

// end stops nginx in order and returns its whole log.
func (n *nginx) end() []logged {
	n.t.Helper()
	n.stop(syscall.SIGTERM)
	return n.requests()
}

// conversations is the requests of each connection, in their order.
func conversations(log []logged) map[int64][]logged {
	all := map[int64][]logged{}
	for _, l := range log {
		all[l.Conn] = append(all[l.Conn], l)
	}
	return all
}

// sortedConversations is one line for each connection: what was asked on it, in its order; and, if
// by is given, by whom.
func sortedConversations(log []logged, by func(*logged) string) []string {
	var all []string
	for _, c := range conversations(log) {
		var words []string
		if by != nil {
			words = append(words, by(&c[0]))
		}
		for i := range c {
			words = append(words, c[i].what())
		}
		all = append(all, strings.Join(words, " | "))
	}
	slices.Sort(all)
	return all
}

// peer is the address that nginx saw, proxied the one that it was told of.
func peer(l *logged) string { return netip.AddrPortFrom(l.Addr, l.Port).String() }

func proxied(l *logged) string { return l.Proxied + " " + l.ProxiedPort }

func bytesOf(log []logged) (n int64) {
	for i := range log {
		n += log[i].Length
	}
	return n
}

// sums is the content of a directory's files, without their names where these are of no meaning.
func sums(t testing.TB, dir string, names bool) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		line := fmt.Sprintf("%d %s", len(b), hex.EncodeToString(sum[:8]))
		if names {
			line += " " + strings.TrimPrefix(path, dir)
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}
