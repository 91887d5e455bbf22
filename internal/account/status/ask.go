package status

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Client asks nodes. The zero value asks those that want no token.
type Client struct {
	Token string         // sent to nodes at IP:PORT, over TLS; empty: none, and no TLS
	Roots *x509.CertPool // the certificates that such a node must be proved by; nil: the system's
}

// Ask asks the node at addr, a path or IP:PORT, without a token.
func Ask(ctx context.Context, addr string) (*Node, error) { return new(Client).Ask(ctx, addr) }

// Ask asks the node at addr, a path or IP:PORT.
func (c *Client) Ask(ctx context.Context, addr string) (*Node, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*asking)
	defer cancel()
	resp, err := c.open(ctx, addr, "/")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	n := new(Node)
	if err := json.Unmarshal(text, n); err != nil {
		return nil, fmt.Errorf("ask %s: not a node's answer: %w", addr, err)
	}
	return n, nil
}

// open sends a request for a page of the node at addr, and returns the response if it is a good
// one. The caller closes its body.
func (c *Client) open(ctx context.Context, addr, path string) (*http.Response, error) {
	network, scheme, host := "tcp", "http", "tcpcopy"
	switch {
	case strings.HasPrefix(addr, "/"):
		network = "unix"
	case c.Token != "":
		scheme, host = "https", addr
	}
	transport := &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: c.Roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	if scheme == "https" {
		r.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		resp.Body.Close()
		return nil, fmt.Errorf("ask %s: %s: %s", addr, resp.Status, strings.TrimSpace(string(text)))
	}
	return resp, nil
}

// Watch calls get with each state of the node at addr, about one a second, and with the error where
// it does not answer. It tries again until ctx is done.
func (c *Client) Watch(ctx context.Context, addr string, get func(*Node, error)) {
	for ctx.Err() == nil {
		err := c.events(ctx, addr, func(n *Node) { get(n, nil) })
		if ctx.Err() != nil {
			return
		}
		get(nil, err)
		select {
		case <-time.After(eventsEvery):
		case <-ctx.Done():
		}
	}
}

// events reads the events of a node until it ends, falls silent, or ctx is done.
func (c *Client) events(ctx context.Context, addr string, get func(*Node)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(2*asking, cancel)
	defer silence.Stop()
	resp, err := c.open(ctx, addr, "/events")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		silence.Reset(2 * asking)
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		n := new(Node)
		if err := json.Unmarshal([]byte(text), n); err != nil {
			return fmt.Errorf("ask %s: not a node's answer: %w", addr, err)
		}
		get(n)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("ask %s: %w", addr, err)
	}
	return fmt.Errorf("ask %s: the node has ended", addr)
}
